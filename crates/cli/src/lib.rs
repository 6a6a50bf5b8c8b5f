//! The program: arguments, terminal, exit codes.
