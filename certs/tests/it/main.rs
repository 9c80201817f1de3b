//! Certificates are tested by what is served: real files, real handshakes.

mod handshake;
mod issuing;
