//! Finds and downloads models, and knows the caches.
