//! Gathering rows and adding them back.
