//! hiberfil.sys: hibernation and fast startup.
