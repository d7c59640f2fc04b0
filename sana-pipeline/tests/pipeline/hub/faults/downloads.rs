//! Downloads that break, and caches that cannot be used.

use super::*;

/// One that breaks once is taken up again where it broke.
#[test]
fn hub_a_broken_download_continues() {
    let cuts = AtomicUsize::new(1);
    let server = serve_but(Site::of(&sana_folder()), move |request, usual| {
        let cut = request.path.starts_with("/storage/vae")
            && request.method == "GET"
            && cuts.swap(0, Ordering::SeqCst) > 0;
        Answer {
            cut: cut.then_some(1000),
            ..usual
        }
    });
    let (_folder, options) = options(&server);
    let snapshot = fetch(&options).unwrap();
    let starts: Vec<Option<usize>> = server
        .requests()
        .iter()
        .filter(|request| request.path.starts_with("/storage/vae"))
        .map(Request::start)
        .collect();
    assert_eq!(starts, [None, Some(1000)]);
    image(&snapshot);
}

/// One that breaks every time is an error; what is there is kept, and is not taken for whole.
#[test]
fn hub_half_a_file_is_never_a_file() {
    let site = Site::of(&sana_folder());
    // With a length, and without: there the end of the connection looks like the end of the file.
    for without_length in [false, true] {
        let server = serve_but(site.clone(), move |request, usual| {
            if !request.path.starts_with("/storage/vae") {
                return usual;
            }
            let mut usual = usual;
            if without_length {
                // Neither encoding nor length: until the connection closes.
                usual
                    .headers
                    .push(("Transfer-Encoding", "identity".to_owned()));
            }
            Answer {
                cut: Some(700),
                ..usual
            }
        });
        let (_folder, options) = options(&server);
        let error = fetch(&options).unwrap_err();
        match &error {
            HubError::BrokenOff {
                file, done, size, ..
            } => {
                assert_eq!(file, VAE);
                assert_eq!(*done, 2100, "three attempts");
                assert_eq!(*size, site.files[VAE].len() as u64);
            }
            other => panic!("{other}"),
        }
        assert!(
            error.to_string().contains("continues from there"),
            "{error}"
        );
        assert!(!blob(&options, "").exists());
        assert_eq!(
            blob(&options, ".incomplete").metadata().unwrap().len(),
            2100
        );
        let snapshot = options
            .cache
            .join("models--owner--name/snapshots")
            .join(COMMIT);
        assert!(!snapshot.join(VAE).exists());
        drop(server);

        let server = serve(site.clone());
        let options = HubOptions {
            endpoint: server.url.clone(),
            ..options
        };
        let whole = fetch(&options).unwrap();
        let stored: Vec<_> = server.requests();
        let starts = stored
            .iter()
            .filter(|request| request.path.starts_with("/storage/vae"));
        assert_eq!(starts.map(Request::start).collect::<Vec<_>>(), [Some(2100)]);
        assert_eq!(
            std::fs::read(whole.folder.join(VAE)).unwrap(),
            site.files[VAE]
        );
        assert_eq!(whole.downloaded, site.files[VAE].len() as u64 - 2100);
    }
}

/// Fetches where so many wrong bytes of the file are there already, from a site that answers
/// requests for its content in another way. The content must be right in the end.
fn fetch_over(
    wrong: usize,
    answer: impl Fn(&Request, Answer, &[u8]) -> Answer + Send + 'static,
) -> Result<(), HubError> {
    let site = Site::of(&sana_folder());
    let content = site.files[VAE].clone();
    let expected = content.clone();
    let server = serve_but(site, move |request, usual| {
        match request.path.starts_with("/storage/vae") {
            true => answer(request, usual, &content),
            false => usual,
        }
    });
    let (_folder, options) = options(&server);
    let partial = blob(&options, ".incomplete");
    std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
    std::fs::write(&partial, vec![7; wrong]).unwrap();
    let snapshot = fetch(&options)?;
    assert_eq!(std::fs::read(snapshot.folder.join(VAE)).unwrap(), expected);
    Ok(())
}

#[test]
fn hub_downloads_that_cannot_continue_start_again() {
    // More than there is, so not of this file.
    fetch_over(10_000_000, |_, usual, _| usual).unwrap();
    // A server without ranges, and one that refuses this one.
    fetch_over(500, |_, _, content| Answer::new(200).body(content)).unwrap();
    fetch_over(500, |request, usual, _| match request.start() {
        Some(_) => Answer::new(416),
        None => usual,
    })
    .unwrap();
    let error = fetch_over(500, |_, _, _| {
        Answer::new(206)
            .header("Content-Range", "bytes 0-9/10")
            .body([0; 10])
    });
    let error = error.unwrap_err();
    assert!(matches!(error, HubError::Answer { .. }));
    assert!(error.to_string().contains("bytes 0-9/10"), "{error}");
}

/// More than was promised.
#[test]
fn hub_files_that_are_too_long() {
    let site = Site::of(&sana_folder());
    let long = [&site.files[VAE][..], b"more"].concat();
    let server = serve_but(site, move |request, usual| {
        match request.path.starts_with("/storage/vae") {
            true => usual.body(long.clone()),
            false => usual,
        }
    });
    let (_folder, options) = options(&server);
    let error = fetch(&options).unwrap_err();
    assert!(matches!(error, HubError::Answer { .. }), "{error}");
    assert!(error.to_string().contains("longer"), "{error}");
    assert!(!blob(&options, "").exists());
}

/// A file that another program left half is downloaded again.
#[test]
fn hub_a_spoilt_cache_is_mended() {
    let site = Site::of(&sana_folder());
    let server = serve(site.clone());
    let (_folder, options) = options(&server);
    let snapshot = fetch(&options).unwrap();
    std::fs::write(blob(&options, ""), "half").unwrap();
    server.requests();
    let mended = fetch(&options).unwrap();
    assert_eq!(files_of(&server.requests()), [VAE]);
    assert_eq!(mended.folder, snapshot.folder);
    assert_eq!(
        std::fs::read(mended.folder.join(VAE)).unwrap(),
        site.files[VAE]
    );
}

/// `/dev/full` is a disk without space.
#[cfg(target_os = "linux")]
#[test]
fn hub_no_space_left() {
    let server = serve(Site::of(&sana_folder()));
    let (_folder, options) = options(&server);
    let partial = blob(&options, ".incomplete");
    std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
    let error = fetch(&options).unwrap_err();
    assert!(
        matches!(&error, HubError::NoSpace { file, .. } if file == VAE),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("no space") && text.contains("HF_HOME"),
        "{text}"
    );
    assert!(!blob(&options, "").exists());
}

#[test]
fn hub_a_cache_that_cannot_be_written() {
    let server = serve(Site::of(&sana_folder()));
    let (folder, options) = options(&server);
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let options = HubOptions {
        cache: file.join("hub"),
        ..options
    };
    let error = fetch(&options).unwrap_err();
    assert!(matches!(error, HubError::Cache { .. }), "{error}");
    assert!(error.to_string().contains("file/hub"), "{error}");
}

/// Two at once download it once.
#[test]
fn hub_two_at_once_share_a_download() {
    let server = serve(Site::of(&sana_folder()));
    let (_folder, options) = options(&server);
    let snapshots: Vec<Snapshot> = std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| fetch(&options)));
        threads
            .map(|thread| thread.join().unwrap().unwrap())
            .to_vec()
    });
    assert_eq!(snapshots[0].folder, snapshots[1].folder);
    let downloads = |request: &Request| request.method == "GET" && is_vae(request);
    let requests = server.requests();
    assert!(requests.iter().any(is_list));
    let through_storage =
        |request: &&Request| downloads(request) && request.path.starts_with("/storage/");
    assert_eq!(requests.iter().filter(through_storage).count(), 1);
}
