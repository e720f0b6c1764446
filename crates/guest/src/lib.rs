//! Inspects and converts a guest's mounted file systems, on a directory handle.
