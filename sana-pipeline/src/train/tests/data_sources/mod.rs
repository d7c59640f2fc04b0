//! What a data source gives, and what becomes of it.

mod buckets;
mod folder;
