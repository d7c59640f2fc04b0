//! Checkpoints from a Hub on loopback.

mod downloads;
mod faults;
mod server;

use sana_pipeline::StepAction;
use sana_pipeline::hub::{self, HubError, HubOptions, HubRepo, Snapshot};

use self::server::{COMMIT, REPO, Request, Server, Site};
use super::*;

/// What the tests talk about most.
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

fn repo() -> HubRepo {
    HubRepo::new(REPO).unwrap()
}

/// A cache of its own, and the options to use it.
fn options(server: &Server) -> (TempDir, HubOptions) {
    let cache = tempfile::tempdir().unwrap();
    let options = HubOptions {
        endpoint: server.url.clone(),
        ..HubOptions::new(cache.path().join("hub"))
    };
    (cache, options)
}

fn offline(options: &HubOptions) -> HubOptions {
    HubOptions {
        offline: true,
        // Nothing listens there.
        endpoint: "http://127.0.0.1:1".to_owned(),
        ..options.clone()
    }
}

fn fetch(options: &HubOptions) -> Result<Snapshot, HubError> {
    hub::fetch(&repo(), None, options, &mut |_| {})
}

impl Site {
    /// With one more file.
    fn with(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(name.to_owned(), content.into());
        self
    }
}

fn serve(site: Site) -> Server {
    Server::start(move |request| site.answer(request))
}

/// Files that were asked for, each once, without the list.
fn files_of(requests: &[Request]) -> Vec<String> {
    let before = format!("/{REPO}/resolve/{COMMIT}/");
    let file = |request: &Request| request.path.strip_prefix(&before).map(str::to_owned);
    let mut files: Vec<String> = requests.iter().filter_map(file).collect();
    files.sort();
    files.dedup();
    files
}

fn image(snapshot: &Snapshot) -> sana_pipeline::image::RgbImage {
    let checkpoint = snapshot.open().unwrap();
    let opened = SanaPipeline::from_checkpoint(checkpoint, LoadOptions::default(), &device());
    let drawn = opened
        .unwrap()
        .generate(&small(), &mut |_| StepAction::Continue);
    drawn.unwrap().images.remove(0)
}

/// Downloaded, drawn with, opened again without a download, and offline.
#[test]
fn hub_from_a_name_to_an_image() {
    let site = Site::of(&sana_folder())
        .with("README.md", "# Sana")
        .with("asset/logo.png", "png")
        .with("vae/diffusion_pytorch_model.bin", "pickle")
        .with("transformer/original.pth", "pickle")
        .with("tokenizer/tokenizer.model", "sentencepiece");
    let server = serve(site.clone());
    let (_folder, options) = options(&server);
    let mut last = (0, 0);
    let snapshot = hub::fetch(&repo(), None, &options, &mut |progress| {
        assert!(site.files.contains_key(progress.file), "{progress:?}");
        assert!(progress.done <= progress.total, "{progress:?}");
        assert!(progress.done >= last.0, "{progress:?} after {last:?}");
        last = (progress.done, progress.total);
    })
    .unwrap();
    let wanted = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        TRANSFORMER_CONFIG,
        TRANSFORMER,
        "vae/config.json",
        VAE,
    ];
    assert_eq!(files_of(&server.requests()), wanted);
    let bytes: u64 = wanted
        .map(|name| site.files[name].len() as u64)
        .iter()
        .sum();
    assert_eq!(snapshot.downloaded, bytes);
    assert_eq!(last, (bytes, bytes));
    assert_eq!(snapshot.commit, COMMIT);
    assert!(!snapshot.trained_in_f16);
    let mut expected = sana();
    let expected = expected
        .generate(&small(), &mut |_| StepAction::Continue)
        .unwrap();
    assert_eq!(image(&snapshot), expected.images[0]);

    let again = fetch(&options).unwrap();
    assert_eq!((again.downloaded, &again.folder), (0, &snapshot.folder));
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].path.starts_with("/api/models/owner/name/"));

    drop(server);
    let cached = fetch(&offline(&options)).unwrap();
    assert_eq!((cached.downloaded, &cached.folder), (0, &snapshot.folder));
    assert_eq!(image(&cached), expected.images[0]);
}

const TRANSFORMER_CONFIG: &str = "transformer/config.json";

/// The layout of the cache is that of other programs.
#[test]
fn hub_the_cache_is_shared() {
    let server = serve(Site::of(&sana_folder()));
    let (_folder, options) = options(&server);
    let snapshot = fetch(&options).unwrap();
    let root = options.cache.join("models--owner--name");
    assert_eq!(snapshot.folder, root.join("snapshots").join(COMMIT));
    let commit = std::fs::read_to_string(root.join("refs/main")).unwrap();
    assert_eq!(commit, COMMIT);
    let blob = root.join("blobs").join(Site::etag(VAE));
    assert_eq!(
        std::fs::read(snapshot.folder.join(VAE)).unwrap(),
        std::fs::read(blob).unwrap()
    );
    #[cfg(unix)]
    assert_eq!(
        std::fs::read_link(snapshot.folder.join(VAE)).unwrap(),
        Path::new("../../../blobs").join(Site::etag(VAE))
    );

    // As another program leaves it: without our list of files.
    std::fs::remove_dir_all(root.join("files")).unwrap();
    let offline = offline(&options);
    assert_eq!(fetch(&offline).unwrap().folder, snapshot.folder);
    std::fs::remove_file(snapshot.folder.join(VAE)).unwrap();
    let error = fetch(&offline).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }));
    assert!(error.to_string().contains("the weights in vae"), "{error}");
}

/// A branch that moves brings what changed alone.
#[test]
fn hub_a_new_commit_shares_what_is_the_same() {
    let moved = "f".repeat(40);
    let site = Site::of(&sana_folder());
    let server = serve(site.clone());
    let (_folder, options) = options(&server);
    let first = fetch(&options).unwrap();
    drop(server);
    let server = Server::start(move |request| {
        let request = Request {
            path: request.path.replace(&moved, COMMIT),
            ..request.clone()
        };
        let mut answer = site.answer(&request);
        for (_, value) in &mut answer.headers {
            *value = value.replace(COMMIT, &moved);
        }
        if let Ok(text) = String::from_utf8(answer.body.clone()) {
            answer.body = text.replace(COMMIT, &moved).into_bytes();
        }
        answer
    });
    let options = HubOptions {
        endpoint: server.url.clone(),
        ..options
    };
    let second = fetch(&options).unwrap();
    assert_ne!(second.folder, first.folder);
    assert_eq!(second.downloaded, 0);
    // Asked for what they are, but not downloaded.
    assert!(
        !server
            .requests()
            .iter()
            .any(|request| request.method == "GET" && request.path.contains("/resolve/"))
    );
    assert_eq!(image(&second), image(&first));
    // The first is still there, by its commit.
    let by_commit = hub::fetch(
        &repo().revision(COMMIT).unwrap(),
        None,
        &offline(&options),
        &mut |_| {},
    );
    assert_eq!(by_commit.unwrap().folder, first.folder);
}

#[test]
fn hub_revisions_and_variants() {
    let fp16 = TRANSFORMER.replace(".safetensors", ".fp16.safetensors");
    let site = Site::of(&sana_folder());
    let content = site.files[TRANSFORMER].clone();
    let server = serve(site.with(&fp16, content));
    let (_folder, options) = options(&server);
    let fetch = |revision: &str, variant| {
        let repo = repo().revision(revision).unwrap();
        hub::fetch(&repo, variant, &options, &mut |_| {})
    };
    let plain = fetch("refs/pr/1", None).unwrap();
    let asked = files_of(&server.requests());
    assert!(!asked.contains(&fp16), "{asked:?}");
    // The files that are there do not show it, but the repository does.
    assert!(!plain.folder.join(&fp16).exists());
    assert!(plain.trained_in_f16);
    let half = fetch(COMMIT, Some("fp16")).unwrap();
    assert_eq!(files_of(&server.requests()), [fp16.as_str()]);
    assert_eq!(half.folder, plain.folder);
    let error = fetch("v9", None).unwrap_err();
    assert!(matches!(error, HubError::NoSuchRevision { .. }));
    assert!(error.to_string().contains("v9"), "{error}");
}

/// Shards by their index, and only those that it lists.
#[test]
fn hub_shards() {
    let shard =
        |n: usize| TRANSFORMER.replace(".safetensors", &format!("-0000{n}-of-00002.safetensors"));
    let mut site = Site::of(&sana_folder());
    let whole = site.files.remove(TRANSFORMER).unwrap();
    let (first, second) = (shard(1), shard(2));
    let name = |path: &str| path.rsplit_once('/').unwrap().1.to_owned();
    let index = serde_json::json!({"weight_map": {"a": name(&first), "b": name(&second)}});
    let index_name = format!("{TRANSFORMER}.index.json");
    let site = site
        .with(&index_name, index.to_string())
        .with(&first, whole)
        // A shard without tensors.
        .with(&second, [&2u64.to_le_bytes()[..], b"{}"].concat())
        .with(&shard(3), "not listed");
    let server = serve(site.clone());
    let (_folder, options) = options(&server);
    let snapshot = fetch(&options).unwrap();
    let asked = files_of(&server.requests());
    for name in [&index_name, &first, &second] {
        assert!(asked.contains(name), "{name} in {asked:?}");
    }
    assert!(!asked.contains(&shard(3)), "{asked:?}");
    image(&snapshot);

    let mut site = site;
    site.files.remove(&second);
    let server = serve(site.clone());
    let (_folder, options) = self::options(&server);
    let error = fetch(&options).unwrap_err();
    assert!(matches!(error, HubError::Incomplete { .. }));
    assert!(error.to_string().contains(&second), "{error}");

    let outside = serde_json::json!({"weight_map": {"a": "../../../../outside"}});
    let server = serve(site.with(&index_name, outside.to_string()));
    let (folder, options) = self::options(&server);
    let error = fetch(&options).unwrap_err();
    assert!(matches!(error, HubError::ShardIndex(_)));
    assert!(
        error.to_string().contains("not a plain file name"),
        "{error}"
    );
    assert!(!folder.path().join("outside").exists());
}

/// The token goes to the endpoint, not to the storage that it forwards to.
#[test]
fn hub_the_token_stays_at_home() {
    let mut site = Site::of(&sana_folder());
    let storage = serve(site.clone());
    site.storage = storage.url.clone();
    let server = serve(site);
    let (_folder, options) = options(&server);
    let options = HubOptions {
        token: Some("hf_secret".to_owned()),
        ..options
    };
    let snapshot = fetch(&options).unwrap();
    for request in server.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer hf_secret"));
    }
    let stored = storage.requests();
    assert_eq!(stored.len(), 3, "{stored:?}");
    for request in stored {
        assert_eq!(request.header("authorization"), None, "{request:?}");
    }
    image(&snapshot);
}

/// A mirror that lists names alone.
#[test]
fn hub_a_list_without_sizes() {
    let site = Site {
        sizes: false,
        ..Site::of(&sana_folder())
    };
    let server = serve(site);
    let (_folder, options) = options(&server);
    let mut last = None;
    let snapshot = hub::fetch(&repo(), None, &options, &mut |progress| {
        assert!(progress.done <= progress.total, "{progress:?}");
        last = Some((progress.done, progress.total));
    })
    .unwrap();
    let bytes = snapshot.downloaded;
    assert!(bytes > 0);
    assert_eq!(last, Some((bytes, bytes)));
    image(&snapshot);
}
