//! Threads that the system does not give.

use crate::support::Workplace;

const DRAW: [&str; 6] = [
    "generate",
    "a red circle",
    "--size=32x32",
    "--steps=1",
    "--seed=1",
    "--device=flex",
];

#[test]
fn a_huge_number_of_threads() {
    let here = Workplace::new();
    let outcome = here
        .command(&["inspect"])
        .env("RAYON_NUM_THREADS", "100000000000")
        .output()
        .unwrap();
    let stderr = String::from_utf8(outcome.stderr).unwrap();
    assert_eq!(outcome.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Every thread needs address space for its stack, so a limit of it is one of threads.
#[test]
#[cfg(target_os = "linux")]
fn fewer_threads_than_asked_for() {
    let here = Workplace::new();
    let draw = |limit: &str, stack: &str, options: &[&str]| {
        let script = format!("ulimit -v {limit} && exec \"$0\" \"$@\"");
        let output = std::process::Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_sana")])
            .args(DRAW)
            .args(options)
            .env("RAYON_NUM_THREADS", "64")
            .env("RUST_MIN_STACK", stack)
            .current_dir(here.path(""))
            .output()
            .unwrap();
        crate::support::Outcome::from(output)
    };
    const GIB: &str = "1073741824";
    const LIMIT: &str = "16500000";
    // No stack of 1 GiB fits: the first thread computes alone.
    let none = draw(LIMIT, "1099511627776", &[]);
    assert_eq!(none.code, Some(0), "{}", none.stderr);
    assert!(
        none.stderr.contains("gives 0 of 64 threads, 1 compute"),
        "{}",
        none.stderr
    );
    let alone = here.image("sana.png");
    // The allocator takes address space ahead of its use, so how much is left is no matter of threads.
    let some = draw(LIMIT, GIB, &["--ignore-memory"]);
    assert_eq!(some.code, Some(0), "{}", some.stderr);
    assert!(
        some.stderr.contains("note: the system gives "),
        "{}",
        some.stderr
    );
    assert_eq!(here.image("sana.png"), alone);
    draw(LIMIT, GIB, &["--threads=64"])
        .fails(1, &["cannot start 64 threads: try fewer with --threads"]);
}
