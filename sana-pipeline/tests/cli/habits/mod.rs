//! What people expect of a command: completions and manuals, events for programs, profiles, styles
//! and wildcards, larger images, models that can be listed and removed, and jobs that are shared.

mod events;
mod hires;
mod models;
mod profiles;
mod prompts;
mod shards;
mod shell;
