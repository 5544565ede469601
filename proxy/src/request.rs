//! What a client asks, checked and cleaned.

pub(crate) mod receive;
pub(crate) mod site;
