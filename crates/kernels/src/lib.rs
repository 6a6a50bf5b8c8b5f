//! The heavy operations, each slow and clear beside fast; the only unsafe code.
