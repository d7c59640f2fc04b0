//! What servers, connections and disks do wrong.

mod downloads;

use std::sync::atomic::{AtomicUsize, Ordering};

use super::server::Answer;
use super::*;

/// A site, but with another answer to some requests.
fn serve_but(site: Site, answer: impl Fn(&Request, Answer) -> Answer + Send + 'static) -> Server {
    Server::start(move |request| {
        let usual = site.answer(request);
        answer(request, usual)
    })
}

fn is_vae(request: &Request) -> bool {
    request.path.ends_with(VAE)
}

fn is_list(request: &Request) -> bool {
    request.path.starts_with("/api/")
}

fn blob(options: &HubOptions, ending: &str) -> PathBuf {
    let blobs = options.cache.join("models--owner--name/blobs");
    blobs.join(format!("{}{ending}", Site::etag(VAE)))
}

/// The error of a server that answers the list with this.
fn list_error(answer: Answer) -> HubError {
    let server = Server::start(move |_| answer.clone());
    let (_folder, options) = options(&server);
    fetch(&options).unwrap_err()
}

#[test]
fn hub_what_is_not_there_or_not_allowed() {
    // Without a token the Hub says 401 where there is nothing.
    for status in [401, 404] {
        let error = list_error(Answer::new(status).header("X-Error-Code", "RepoNotFound"));
        assert!(matches!(error, HubError::NoSuchRepo { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(REPO) && text.contains("HF_TOKEN"), "{text}");
    }
    let error = list_error(Answer::new(404));
    assert!(matches!(error, HubError::NoSuchRepo { .. }), "{error}");

    for status in [401, 403] {
        let said = "Access to model owner/name is restricted";
        let error = list_error(
            Answer::new(status)
                .header("X-Error-Code", "GatedRepo")
                .header("X-Error-Message", said),
        );
        assert!(
            matches!(error, HubError::Denied { status: found, .. } if found == status),
            "{error}"
        );
        let text = error.to_string();
        for part in ["licence", "HF_TOKEN", "restricted", "/owner/name"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    let error = list_error(Answer::new(503));
    assert!(
        matches!(error, HubError::Status { status: 503, .. }),
        "{error}"
    );
}

#[test]
fn hub_files_may_be_gated_where_the_list_is_not() {
    let server = serve_but(Site::of(&sana_folder()), |request, usual| {
        match request.path.contains("/resolve/") {
            true => Answer::new(403).header("X-Error-Code", "GatedRepo"),
            false => usual,
        }
    });
    let (_folder, options) = options(&server);
    let error = fetch(&options).unwrap_err();
    assert!(matches!(error, HubError::Denied { .. }), "{error}");
}

#[test]
fn hub_repositories_of_another_layout() {
    let server = serve(Site::default().with("checkpoints/model.pth", "pickle"));
    let (_folder, options) = options(&server);
    let error = fetch(&options).unwrap_err();
    assert!(matches!(error, HubError::NotCheckpoint { .. }));
    assert!(error.to_string().contains("_diffusers"), "{error}");

    let mut site = Site::of(&sana_folder());
    site.files.remove(VAE);
    let server = serve(site.with("vae/diffusion_pytorch_model.bin", "pickle"));
    let (_folder, options) = self::options(&server);
    let error = fetch(&options).unwrap_err();
    assert!(matches!(error, HubError::NoWeights { folder: "vae", .. }));
    assert!(error.to_string().contains(".bin"), "{error}");

    let mut site = Site::of(&sana_folder());
    site.files.remove("tokenizer/tokenizer.json");
    let server = serve(site.clone());
    let (_folder, options) = self::options(&server);
    let error = fetch(&options).unwrap_err();
    assert!(matches!(error, HubError::Incomplete { .. }));
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
    assert!(!error.to_string().contains("tokenizer.model"), "{error}");

    let server = serve(site.with("tokenizer/tokenizer.model", "sentencepiece"));
    let (_folder, options) = self::options(&server);
    let error = fetch(&options).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("tokenizer.model there is not read"),
        "{error}"
    );
}

#[test]
fn hub_answers_that_are_not_those_of_a_hub() {
    for body in ["<html>", "[]", "{}", r#"{"sha": "../..", "siblings": []}"#] {
        let error = list_error(Answer::new(200).body(body));
        assert!(matches!(error, HubError::Answer { .. }), "{body}: {error}");
    }
    for name in ["../evil.json", "/etc/evil", r"a\..\evil"] {
        let site = Site::of(&sana_folder()).with(name, "evil");
        let server = serve(site);
        let (folder, options) = options(&server);
        let error = fetch(&options).unwrap_err();
        assert!(matches!(error, HubError::Answer { .. }));
        assert!(error.to_string().contains("leaves the folder"), "{error}");
        // Nothing was written.
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
    let error = list_error(Answer::new(302).header("Location", "/again"));
    assert!(
        error.to_string().contains("redirected more than"),
        "{error}"
    );
    let error = list_error(Answer::new(302));
    assert!(error.to_string().contains("redirect to nowhere"), "{error}");

    let of_files = |change: fn(Answer) -> Answer, expected: &str| {
        let server = serve_but(
            Site::of(&sana_folder()),
            move |request, usual| match request.path.starts_with("/cache/") {
                true => change(usual),
                false => usual,
            },
        );
        let (_folder, options) = options(&server);
        let error = fetch(&options).unwrap_err();
        assert!(matches!(error, HubError::Answer { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    of_files(
        |mut answer| {
            answer.headers.retain(|(name, _)| *name != "ETag");
            answer
        },
        "no etag",
    );
    of_files(
        |mut answer| {
            answer.headers.retain(|(name, _)| *name != "ETag");
            answer.header("ETag", "\"../../../evil\"")
        },
        "evil",
    );
    of_files(
        |mut answer| {
            answer.headers.retain(|(name, _)| *name != "X-Repo-Commit");
            answer.header("X-Repo-Commit", "f".repeat(40))
        },
        "of commit",
    );
}

#[test]
fn hub_nobody_listens() {
    let cache = tempfile::tempdir().unwrap();
    let options = HubOptions {
        endpoint: "http://127.0.0.1:1".to_owned(),
        ..HubOptions::new(cache.path())
    };
    let error = fetch(&options).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    for part in ["127.0.0.1", "refused", "HF_HUB_OFFLINE", "HF_ENDPOINT"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn hub_offline_without_a_cache() {
    let server = serve(Site::of(&sana_folder()));
    let (_folder, options) = options(&server);
    let offline = offline(&options);
    let error = fetch(&offline).unwrap_err();
    assert!(matches!(&error, HubError::Offline { files, .. } if files.is_empty()));
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");

    let snapshot = fetch(&options).unwrap();
    std::fs::remove_file(snapshot.folder.join(VAE)).unwrap();
    std::fs::remove_file(snapshot.folder.join(TRANSFORMER)).unwrap();
    let error = fetch(&offline).unwrap_err();
    match &error {
        HubError::Offline { files, .. } => assert_eq!(files, &[TRANSFORMER, VAE]),
        other => panic!("{other}"),
    }
    assert!(error.to_string().contains(VAE), "{error}");
    let other = hub::fetch(&repo().revision("v2").unwrap(), None, &offline, &mut |_| {});
    assert!(matches!(other, Err(HubError::Offline { .. })));
}
