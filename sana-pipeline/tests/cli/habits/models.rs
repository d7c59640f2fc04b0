//! `sana models`.

#![cfg(all(feature = "hub", unix))]

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::hub::server::{COMMIT, REPO, Server, Site};
use crate::support::{Outcome, Workplace, checkpoint};

const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";
const ROOT: &str = "cache/models--owner--name";

fn sana(here: &Workplace, endpoint: &str, arguments: &[&str]) -> Outcome {
    let mut command = here.command(arguments);
    command
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HOME", here.path("home"))
        .env("HF_HUB_CACHE", here.path("cache"))
        .env("HF_HUB_OFFLINE", "0")
        .env("NO_PROXY", "*")
        .env_remove("HUGGINGFACE_HUB_CACHE");
    Outcome::from(command.output().unwrap())
}

/// A cache by hand, as other programs for the Hub leave it: contents, and revisions of links to them.
fn cache(
    here: &Workplace,
    root: &str,
    contents: &[(&str, &str)],
    revisions: &[(&str, &[(&str, &str)])],
) {
    let path = |name: &str| here.path(&format!("{root}/{name}"));
    fs::create_dir_all(path("blobs")).unwrap();
    for (name, content) in contents {
        fs::write(path(&format!("blobs/{name}")), content).unwrap();
    }
    for (commit, files) in revisions {
        for (file, blob) in *files {
            let file = path(&format!("snapshots/{commit}/{file}"));
            let depth = file
                .strip_prefix(path("snapshots"))
                .unwrap()
                .components()
                .count();
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            symlink(format!("{}blobs/{blob}", "../".repeat(depth)), file).unwrap();
        }
    }
}

/// `git hash-object` and `sha256sum` of "hello\n".
const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
const SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

/// Two revisions that share `shared`, in a cache with other things.
fn two_revisions(here: &Workplace) {
    let contents = [
        ("shared", "12345"),
        ("old", "123"),
        ("new", "1234567"),
        ("x.incomplete", "12"),
    ];
    let old = [
        ("model_index.json", "old"),
        ("vae/model.safetensors", "shared"),
    ];
    let new = [
        ("model_index.json", "new"),
        ("vae/model.safetensors", "shared"),
    ];
    cache(here, ROOT, &contents, &[(OTHER, &old), (COMMIT, &new)]);
    fs::create_dir_all(here.path(&format!("{ROOT}/refs/pr"))).unwrap();
    fs::write(here.path(&format!("{ROOT}/refs/main")), COMMIT).unwrap();
    fs::write(here.path(&format!("{ROOT}/refs/pr/3")), OTHER).unwrap();
    cache(
        here,
        "cache/models--gpt2",
        &[("b", "text")],
        &[(COMMIT, &[("config.json", "b")])],
    );
    fs::create_dir_all(here.path("cache/datasets--a--b/blobs")).unwrap();
}

#[test]
fn what_is_in_the_cache() {
    let here = Workplace::new();
    let models = |arguments: &[&str]| {
        sana(
            &here,
            "http://127.0.0.1:1",
            &[&["models"], arguments].concat(),
        )
    };
    let said = models(&["list"]).quiet_success();
    assert!(
        said.starts_with("no model in ") && said.ends_with("/cache\n"),
        "{said}"
    );
    models(&["rm", REPO]).fails(1, &["owner/name is not in the cache"]);
    two_revisions(&here);
    let said = models(&["list"]).quiet_success();
    let expected = [
        "owner/name  0123456789ab (main)  12 B in 2 files\n",
        "owner/name  89abcdef0123 (pr/3)  8 B in 2 files\n",
    ];
    assert_eq!(said, expected.concat());
    assert!(
        models(&["list", "--all"])
            .quiet_success()
            .contains("gpt2  ")
    );
    let said = models(&["du"]).quiet_success();
    assert!(
        said.contains("15 B  owner/name, and 2 B not whole\n"),
        "{said}"
    );
    assert!(
        said.contains("3 B    89abcdef0123 alone\n") && said.contains("21 B  /"),
        "{said}"
    );
    let said: Value = serde_json::from_str(&models(&["list", "--json"]).quiet_success()).unwrap();
    let first = &said["models"][0]["revisions"][0];
    assert_eq!(first["own_bytes"], 7);
    assert_eq!(first["refs"], json!(["main"]));
    assert_eq!(said["models"].as_array().unwrap().len(), 1);
    // One without an owner.
    let said = models(&["rm", "gpt2"]).quiet_success();
    assert!(said.starts_with("removed gpt2 at 0123456789"), "{said}");
    assert!(!here.path("cache/models--gpt2").exists());
}

#[test]
fn a_revision_is_removed_and_what_is_shared_is_kept() {
    let here = Workplace::new();
    let models = |arguments: &[&str]| {
        sana(
            &here,
            "http://127.0.0.1:1",
            &[&["models"], arguments].concat(),
        )
    };
    two_revisions(&here);
    for (revision, code) in [("v1", 1), ("89abcd", 1), ("../..", 1)] {
        models(&["rm", REPO, "--revision", revision])
            .fails(code, &["owner/name at", "not in the cache"]);
    }
    models(&["rm", "../cache"]).fails(1, &["not the name of a repository"]);
    // Another program downloads it.
    let locks = here.path("cache/.locks/models--owner--name");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join("shared.lock")).unwrap();
    lock.lock().unwrap();
    models(&["rm", REPO]).fails(1, &["owner/name is being downloaded", "shared.lock"]);
    assert!(
        here.path(&format!("{ROOT}/snapshots/{OTHER}/model_index.json"))
            .exists()
    );
    // Not by closing it: a process that another test begins may have a copy of it for a moment.
    lock.unlock().unwrap();
    // Between two files, too.
    let lock = fs::File::create(locks.join("download.lock")).unwrap();
    lock.lock_shared().unwrap();
    models(&["rm", REPO]).fails(1, &["owner/name is being downloaded", "download.lock"]);
    // Not by closing it: a process that another test begins may have a copy of it for a moment.
    lock.unlock().unwrap();

    let said = models(&["rm", REPO, "--revision", "pr/3"]).quiet_success();
    assert_eq!(
        said,
        format!("removed owner/name at {OTHER}\n3 B are free again\n")
    );
    assert_eq!(here.files_in(&format!("{ROOT}/snapshots")), [COMMIT]);
    assert_eq!(
        here.files_in(&format!("{ROOT}/blobs")),
        ["new", "shared", "x.incomplete"]
    );
    assert_eq!(here.files_in(&format!("{ROOT}/refs")), ["main", "pr"]);
    assert!(here.files_in(&format!("{ROOT}/refs/pr")).is_empty());
    assert_eq!(
        here.bytes(&format!("{ROOT}/snapshots/{COMMIT}/vae/model.safetensors")),
        b"12345"
    );
    // What a process that was killed left behind goes with the next.
    let killed = here.path(&format!("{ROOT}/removed/{OTHER}"));
    fs::create_dir_all(&killed).unwrap();
    fs::write(here.path(&format!("{ROOT}/blobs/old")), "123").unwrap();
    models(&["rm", REPO, "--revision", &COMMIT[..7]]).quiet_success();
    assert_eq!(
        here.files_in("cache"),
        [".locks", "datasets--a--b", "models--gpt2"]
    );
    assert!(here.files_in("cache/.locks").is_empty());
}

/// Nothing outside the contents of the repository is removed, wherever links lead.
#[test]
fn links_are_not_followed() {
    let here = Workplace::new();
    fs::create_dir(here.path("precious")).unwrap();
    fs::write(here.path("precious/file"), "1").unwrap();
    cache(
        &here,
        ROOT,
        &[("a", "1")],
        &[(COMMIT, &[("model_index.json", "a")])],
    );
    symlink(
        here.path("precious"),
        here.path(&format!("{ROOT}/snapshots/{OTHER}")),
    )
    .unwrap();
    symlink(
        here.path("precious/file"),
        here.path(&format!("{ROOT}/snapshots/{COMMIT}/b")),
    )
    .unwrap();
    symlink(
        here.path("precious"),
        here.path(&format!("{ROOT}/snapshots/{COMMIT}/c")),
    )
    .unwrap();
    let models = |arguments: &[&str]| {
        sana(
            &here,
            "http://127.0.0.1:1",
            &[&["models"], arguments].concat(),
        )
    };
    models(&["list", "--all"]).quiet_success();
    models(&["rm", REPO]).quiet_success();
    assert_eq!(here.bytes("precious/file"), b"1");
    // Contents in another folder.
    let linked = here.path("cache/models--owner--linked");
    fs::create_dir_all(linked.join("snapshots").join(OTHER)).unwrap();
    symlink(here.path("precious"), linked.join("blobs")).unwrap();
    models(&["rm", "owner/linked"]).quiet_success();
    assert_eq!(here.bytes("precious/file"), b"1");
    assert!(here.files_in("cache").iter().all(|name| name == ".locks"));
}

#[test]
fn hashes_are_compared() {
    let here = Workplace::new();
    let site = Site::of(&checkpoint());
    let server = Server::start(move |request| site.answer(request));
    let models = |arguments: &[&str]| sana(&here, &server.url, &[&["models"], arguments].concat());
    let run = models(&["pull", REPO]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stdout.starts_with(&format!("owner/name at {COMMIT}: ")),
        "{}",
        run.stdout
    );
    let before = server.requests().len();
    models(&["pull", REPO]).quiet_success();
    assert!(server.requests().len() < before);
    models(&["list", "--check"]).quiet_success();
    models(&["pull", "owner/other"]).fails(1, &["owner/other"]);

    let contents = [(GIT, "hello\n"), (SHA256, "hello\n")];
    let files = [
        ("model_index.json", GIT),
        ("vae/a.safetensors", SHA256),
        ("gone", "gone"),
    ];
    cache(&here, "cache/models--a--b", &contents, &[(OTHER, &files)]);
    let of_check = models(&["list", "--check"]);
    of_check.fails(1, &["a/b: 89abcdef0123456789abcdef0123456789abcdef/gone"]);
    assert!(
        of_check.stdout.contains("3 files, 1 absent\n"),
        "{}",
        of_check.stdout
    );
    fs::write(
        here.path(&format!("cache/models--a--b/blobs/{SHA256}")),
        "hellO\n",
    )
    .unwrap();
    let of_check = models(&["list", "--check"]);
    of_check.fails(1, &["/vae/a.safetensors", "sana models pull OWNER/NAME"]);
    assert!(
        !of_check.stderr.contains("model_index.json"),
        "{}",
        of_check.stderr
    );
}
