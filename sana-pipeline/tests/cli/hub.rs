//! Models by their name on the Hub.

use crate::support::Workplace;

/// What is to be done where the feature is off, and where a name is not one of a repository.
#[test]
fn names_that_are_no_folder() {
    let here = Workplace::new();
    let generate = |model: &str, options: &[&str]| {
        let usual = ["generate", "a", "--device", "flex", "--model", model];
        here.sana(&[&usual, options].concat())
    };
    #[cfg(not(feature = "hub"))]
    generate("owner/name", &[]).fails(1, &["no folder owner/name", "--features hub"]);
    #[cfg(feature = "hub")]
    {
        let folder_or_name = |model: &str, url: &str, offline: &str| {
            let mut command =
                here.command(&["generate", "a", "--device", "flex", "--model", model]);
            command
                .env("HF_ENDPOINT", url)
                .env("HF_HUB_CACHE", here.path("cache"))
                .env("HF_HUB_OFFLINE", offline)
                .env("NO_PROXY", "*");
            crate::support::Outcome::from(command.output().unwrap())
        };
        // Nothing listens there.
        for offline in ["0", "1"] {
            folder_or_name("models/sana", "http://127.0.0.1:1", offline).fails(
                1,
                &["no folder models/sana, so it is taken as the name of a model on the Hugging Face Hub"],
            );
        }
    }
    generate("a/b/c", &[]).fails(1, &["no folder a/b/c"]);
    let folder = here.copied_checkpoint("mine");
    generate(folder.to_str().unwrap(), &["--revision", "main"])
        .fails(1, &["--revision", "Hub", "mine"]);
    here.sana(&["generate", "a", "--revision", "main"])
        .fails(2, &["--revision", "--model"]);
    assert_eq!(here.files(), ["mine"]);
}

#[cfg(feature = "hub")]
#[path = "../pipeline/hub/server.rs"]
pub mod server;

#[cfg(feature = "hub")]
mod with_the_hub {
    use super::server::{COMMIT, REPO, Server, Site};
    use crate::support::{Outcome, Workplace, checkpoint};

    /// Runs `sana` with a Hub at this URL, whatever the environment of the tests says.
    fn sana(here: &Workplace, endpoint: &str, offline: bool, arguments: &[&str]) -> Outcome {
        let mut command = here.command(arguments);
        for name in [
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HUGGINGFACE_HUB_CACHE",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HOME", here.path("home"))
            .env("HF_HUB_CACHE", here.path("cache"))
            .env("HF_HUB_OFFLINE", if offline { "1" } else { "0" })
            .env("NO_PROXY", "*");
        Outcome::from(command.output().unwrap())
    }

    const GENERATE: [&str; 10] = [
        "generate",
        "a red circle",
        "--size",
        "96x64",
        "--steps",
        "2",
        "--seed",
        "3",
        "--device",
        "flex",
    ];

    /// `inspect --check` finds a file that was damaged after its download, and fetches it again.
    #[cfg(unix)]
    #[test]
    fn a_damaged_file_is_fetched_again() {
        let here = Workplace::new();
        let mut site = Site::of(&checkpoint());
        let config = "vae/config.json";
        let content = [site.files[config].clone(), b"\n".to_vec()].concat();
        std::fs::write(here.path("content"), &content).unwrap();
        let git = std::process::Command::new("git")
            .args(["hash-object", "--no-filters"])
            .arg(here.path("content"))
            .output();
        let hash = String::from_utf8(git.unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned();
        site.files.insert(config.to_owned(), content.clone());
        site.etags.insert(config.to_owned(), hash);
        let server = Server::start(move |request| site.answer(request));
        let check = |offline| sana(&here, &server.url, offline, &["inspect", REPO, "--check"]);
        assert_eq!(check(false).code, Some(0));
        let snapshot = format!("cache/models--owner--name/snapshots/{COMMIT}/{config}");
        let damaged = [&content[..content.len() - 1], b" "].concat();
        std::fs::write(here.path(&snapshot), damaged).unwrap();
        check(true).fails(1, &["vae/config.json is damaged"]);
        assert_eq!(check(false).code, Some(0));
        assert_eq!(here.bytes(&snapshot), content);
    }

    #[test]
    fn a_model_by_its_name() {
        let here = Workplace::new();
        let site = Site::of(&checkpoint());
        let server = Server::start(move |request| site.answer(request));
        std::fs::create_dir(here.path("home")).unwrap();
        std::fs::write(here.path("home/token"), "hf_file").unwrap();
        let by_name = [&GENERATE[..], &["--model", REPO]].concat();
        let first = sana(&here, &server.url, false, &by_name);
        assert_eq!(first.code, Some(0), "{}", first.stderr);
        assert!(
            first.stderr.starts_with("note: downloaded "),
            "{}",
            first.stderr
        );
        assert!(
            first.stdout.contains("model owner/name, "),
            "{}",
            first.stdout
        );
        for request in server.requests() {
            assert_eq!(request.header("authorization"), Some("Bearer hf_file"));
        }
        let drawn = std::fs::read(here.path("sana.png")).unwrap();
        here.sana_on_fixture(&[&GENERATE[..8], &["--out", "local.png"]].concat())
            .quiet_success();
        let pixels = |name: &str| sana_pipeline::image::load(&here.path(name)).unwrap();
        assert_eq!(pixels("sana.png"), pixels("local.png"));

        // The image records which commit it is of, and the command makes it again.
        let said = here.sana(&["inspect", "sana.png"]).quiet_success();
        let end = format!("--model owner/name --revision {COMMIT} --device flex --dtype f32\n");
        assert!(said.ends_with(&end), "{said}");
        let again = [&by_name[..], &["--revision", COMMIT]].concat();
        sana(&here, "http://127.0.0.1:1", true, &again).quiet_success();
        assert_eq!(std::fs::read(here.path("sana.png")).unwrap(), drawn);

        let inspected = sana(&here, &server.url, false, &["inspect", REPO]).quiet_success();
        assert!(inspected.contains("SanaTransformer2DModel"), "{inspected}");
        let wrong = ["inspect", REPO, "--revision", "v9"];
        sana(&here, &server.url, false, &wrong).fails(1, &["no revision v9"]);
        let other = ["inspect", "owner/other"];
        sana(&here, &server.url, false, &other)
            .fails(1, &["no folder and no repository owner/other", "HF_TOKEN"]);
        sana(&here, &server.url, true, &other).fails(1, &["HF_HUB_OFFLINE", "owner/other"]);
    }

    /// A folder of that name wins.
    #[test]
    fn a_folder_of_that_name_wins() {
        let here = Workplace::new();
        std::fs::create_dir(here.path("owner")).unwrap();
        here.copied_checkpoint("owner/name");
        let drawn = [&GENERATE[..], &["--model", REPO]].concat();
        sana(&here, "http://127.0.0.1:1", false, &drawn).quiet_success();
    }
}
