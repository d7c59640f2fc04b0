//! Benchmarks whose images another program looks at: images in the layout that it reads, and the
//! score of what it wrote.

mod args;
mod dpg;
mod geneval;
mod image_reward;
mod item;
mod make;

pub use self::dpg::DpgArgs;
pub use self::geneval::GenevalArgs;
pub use self::image_reward::ImageRewardArgs;

pub use self::dpg::run as run_dpg;
pub use self::geneval::run as run_geneval;
pub use self::image_reward::run as run_image_reward;
