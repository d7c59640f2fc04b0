//! Hashes and variants of what is downloaded.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sana_pipeline::checkpoint::Component;
use sana_pipeline::preview::LatentRgb;

use super::*;

/// The content of [`VAE`] in these tests, and its SHA-256.
const CONTENT: &str = "hello\n";
const SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
/// What git calls it.
const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

/// A repository one of whose files is named by its hash.
fn named(file: &str, hash: &str) -> Site {
    let mut site = Site::of(&sana_folder()).with(file, CONTENT);
    site.etags.insert(file.to_owned(), hash.to_owned());
    site
}

/// A server that damages the file as long as the switch is on.
fn damaging(site: Site, file: &'static str) -> (Server, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(true));
    let server = Server::start({
        let switch = Arc::clone(&switch);
        move |request| {
            let mut answer = site.answer(request);
            let ours = request.path.ends_with(file) && !answer.body.is_empty();
            if ours && switch.load(Ordering::SeqCst) {
                answer.body[1] ^= 1;
            }
            answer
        }
    });
    (server, switch)
}

/// How often the content of a file was asked for.
fn downloads(server: &Server, file: &str) -> usize {
    let requests = server.requests();
    let get = requests.iter().filter(|request| request.method == "GET");
    get.filter(|request| request.path.ends_with(file)).count()
}

/// A connection that damages what it carries: nothing of it becomes a file.
#[test]
fn hub_damaged_downloads() {
    for (file, hash) in [(VAE, SHA256), ("vae/config.json", GIT)] {
        let (server, damages) = damaging(named(file, hash), file);
        let (_folder, options) = options(&server);
        let error = fetch(&options).unwrap_err();
        assert!(matches!(&error, HubError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(file), "{error}");
        // Tried twice in one call.
        assert!(downloads(&server, file) >= 2);
        damages.store(false, Ordering::SeqCst);
        let snapshot = fetch(&options).unwrap();
        assert_eq!(
            fs::read_to_string(snapshot.folder.join(file)).unwrap(),
            CONTENT
        );
    }
}

/// A download that is taken up after its first bytes were damaged on the disk is begun again.
#[test]
fn hub_a_damaged_beginning() {
    let server = serve(named(VAE, SHA256));
    let (_folder, options) = options(&server);
    let blobs = options.cache.join("models--owner--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{SHA256}.incomplete")), "hex").unwrap();
    let snapshot = fetch(&options).unwrap();
    assert_eq!(
        fs::read_to_string(snapshot.folder.join(VAE)).unwrap(),
        CONTENT
    );
    // A content that another program left damaged, of which there is no link yet.
    fs::remove_file(snapshot.folder.join(VAE)).unwrap();
    fs::write(blobs.join(SHA256), "hexxo\n").unwrap();
    fetch(&options).unwrap();
    assert_eq!(
        fs::read_to_string(snapshot.folder.join(VAE)).unwrap(),
        CONTENT
    );
}

/// Files in the cache are compared when that is asked for: it takes reading them.
#[cfg(unix)]
#[test]
fn hub_a_damaged_cache() {
    let server = serve(named(VAE, SHA256));
    let (_folder, options) = options(&server);
    let snapshot = fetch(&options).unwrap();
    let file = snapshot.folder.join(VAE);
    let damage = || fs::write(&file, "hexxo\n").unwrap();
    damage();
    server.requests();
    fetch(&options).unwrap();
    assert_eq!(downloads(&server, VAE), 0);
    let verified = |options: &HubOptions| {
        fetch(&HubOptions {
            verify: true,
            ..options.clone()
        })
    };
    let error = verified(&offline(&options)).unwrap_err();
    assert!(matches!(&error, HubError::Damaged { .. }), "{error}");
    assert!(file.exists());
    assert_eq!(verified(&options).unwrap().downloaded, CONTENT.len() as u64);
    assert_eq!(fs::read_to_string(&file).unwrap(), CONTENT);
    assert_eq!(verified(&options).unwrap().downloaded, 0);
    verified(&offline(&options)).unwrap();
}

fn of_variant(site: &mut Site, variant: &str, keep: bool) {
    for file in [TRANSFORMER, VAE, "text_encoder/model.safetensors"] {
        let content = site.files[file].clone();
        if !keep {
            site.files.remove(file);
        }
        let named = file.replace(".safetensors", &format!(".{variant}.safetensors"));
        site.files.insert(named, content);
    }
}

#[test]
fn hub_the_only_variant() {
    let mut site = Site::of(&sana_folder());
    of_variant(&mut site, "bf16", false);
    let server = serve(site.clone());
    let (_folder, options) = options(&server);
    let expected = image(&fetch(&options).unwrap());
    assert_eq!(image(&fetch(&offline(&options)).unwrap()), expected);
    let typo = hub::fetch(&repo(), Some("typo"), &options, &mut |_| {});
    let error = typo.unwrap_err();
    assert!(matches!(&error, HubError::NoVariant { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("\"typo\"; its variants are bf16"),
        "{error}"
    );

    let vae = "vae/diffusion_pytorch_model.fp16.safetensors";
    let site = site
        .with(vae, "another")
        .with(&vae.replace("fp16", "int4"), "third");
    let server = serve(site);
    let (_folder, options) = self::options(&server);
    let error = fetch(&options).unwrap_err();
    assert!(
        matches!(&error, HubError::NoWeights { folder: "vae", .. }),
        "{error}"
    );
    assert!(error.to_string().contains("bf16, fp16, int4"), "{error}");
}

/// Offline, the variant that was downloaded loads without being asked for, though the repository has
/// others.
#[test]
fn hub_what_is_in_the_cache_is_chosen_from_offline() {
    let mut site = Site::of(&sana_folder());
    of_variant(&mut site, "bf16", true);
    let server = serve(site);
    let (_folder, options) = options(&server);
    let half = hub::fetch(&repo(), Some("bf16"), &options, &mut |_| {}).unwrap();
    assert!(!half.folder.join(TRANSFORMER).exists());
    let again = fetch(&offline(&options)).unwrap();
    image(&again);
    let other = hub::fetch(&repo(), Some("fp16"), &offline(&options), &mut |_| {});
    assert!(matches!(other.unwrap_err(), HubError::NoVariant { .. }));
    // Online it is the plain one.
    fetch(&options).unwrap();
    assert!(half.folder.join(TRANSFORMER).exists());
    // One that the list has and the cache has not.
    let text = Component::TextEncoder.folder();
    let there = half.folder.join(text).join("model.bf16.safetensors");
    fs::remove_file(&there).unwrap();
    let error = hub::fetch(&repo(), Some("bf16"), &offline(&options), &mut |_| {}).unwrap_err();
    assert!(matches!(&error, HubError::Offline { .. }), "{error}");
    assert!(
        error.to_string().contains("model.bf16.safetensors"),
        "{error}"
    );
}

/// The settings of a tokenizer come with it.
#[test]
fn hub_tokenizers_with_their_settings() {
    let server = serve(Site::of(&sana_folder()));
    let (_folder, options) = options(&server);
    let snapshot = fetch(&options).unwrap();
    let config = snapshot.folder.join("tokenizer/tokenizer_config.json");
    assert!(config.is_file());
    // A cache that an older program filled has none.
    fs::remove_file(&config).unwrap();
    fetch(&offline(&options)).unwrap();
    fetch(&options).unwrap();
    assert!(config.is_file());
}

/// And so do the colours of latents, of a repository that has them.
#[test]
fn hub_models_with_the_colors_of_their_latents() {
    let colors = LatentRgb::new("a test", vec![[0.01; 3]; 32], [0.5; 3]).unwrap();
    let site = Site::of(&sana_folder()).with("vae/latent_rgb.json", colors.to_json());
    let server = serve(site);
    let (_folder, options) = options(&server);
    let snapshot = fetch(&options).unwrap();
    assert_eq!(snapshot.open().unwrap().latent_rgb().unwrap(), Some(colors));
}
