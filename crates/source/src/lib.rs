//! Machines and their disks from OVA, OVF folders and bare disk files.
