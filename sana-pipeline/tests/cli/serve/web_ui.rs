//! The web UI's API.

use super::*;

#[test]
fn what_front_ends_of_the_web_ui_call() {
    let server = Server::start(&[]);
    let request = json!({
        "prompt": "a red circle", "negative_prompt": "", "seed": 3, "steps": 2, "width": 96, "height": 64,
        "cfg_scale": 4.5, "sampler_name": "DPM++ 2M Karras", "batch_size": 1, "n_iter": 2,
        "override_settings": null, "enable_hr": false
    });
    let answer = server.post("/sdapi/v1/txt2img", &request).ok();
    let first = image(&decoded(&answer["images"][0]));
    assert_eq!(answer["images"].as_array().unwrap().len(), 2);
    assert_eq!(answer["parameters"]["steps"], 2);
    let info: Value = serde_json::from_str(answer["info"].as_str().unwrap()).unwrap();
    assert_eq!(info["all_seeds"], json!([3, 4]));
    assert_eq!(info["steps"], 2);
    // As `/sdapi/v1/samplers` has it, so that it can be asked for again.
    assert_eq!(info["sampler_name"], "Flow DPM++ 2M");
    let text = info["infotexts"][0].as_str().unwrap();
    assert!(
        text.contains("Steps: 2") && text.contains("Seed: 3, Size: 96x64"),
        "{text}"
    );

    let (_, file, _) = uploads();
    let mask = GrayImage::from_fn(96, 64, |x, _| ::image::Luma([if x < 48 { 255 } else { 0 }]));
    let mut mask_file = std::io::Cursor::new(Vec::new());
    mask.write_to(&mut mask_file, ::image::ImageFormat::Png)
        .unwrap();
    let start = json!({
        "init_images": [format!("data:image/png;base64,{}", BASE64_STANDARD.encode(&file))],
        "denoising_strength": 1.0,
        "mask": BASE64_STANDARD.encode(mask_file.into_inner()),
        "inpainting_mask_invert": 1,
        "n_iter": 1,
    });
    let answer = server
        .post("/sdapi/v1/img2img", &with(request.clone(), start))
        .ok();
    let edited = image(&decoded(&answer["images"][0]));
    assert_ne!(edited, first);
    assert_eq!(edited.get_pixel(3, 3), image(&file).get_pixel(3, 3));
    assert_eq!(answer["parameters"]["init_images"], Value::Null);
    let whole = json!({ "mask": null, "denoising_strength": 0.5, "n_iter": 1, "init_images": [BASE64_STANDARD.encode(&file)] });
    server
        .post("/sdapi/v1/img2img", &with(request.clone(), whole))
        .ok();
    server
        .post("/sdapi/v1/img2img", &request)
        .fails(400, &["init_images", "not 0"]);

    let samplers = server.get("/sdapi/v1/samplers").ok();
    assert_eq!(samplers[0]["name"], "Flow DPM++ 2M");
    assert_eq!(samplers.as_array().unwrap().len(), 2);
    assert_eq!(
        server.get("/sdapi/v1/sd-models").ok()[0]["model_name"],
        "sana"
    );
    assert_eq!(
        server.get("/sdapi/v1/options").ok()["sd_model_checkpoint"],
        "sana"
    );
    let options = "/sdapi/v1/options";
    server
        .post(options, &json!({ "sd_model_checkpoint": "sana", "x": 1 }))
        .ok();
    server
        .post(options, &json!({ "sd_model_checkpoint": "other" }))
        .fails(400, &["one model"]);
    let idle = server.get("/sdapi/v1/progress").ok();
    // As Python writes it.
    let skipped = "/sdapi/v1/progress?skip_current_image=True";
    assert_eq!(server.get(skipped).ok(), idle);
    assert_eq!(
        (&idle["progress"], &idle["state"]["job_count"]),
        (&json!(0.0), &json!(0))
    );
}

/// The image as it is, and no further steps.
#[test]
fn interrupting_gives_the_image_as_it_is() {
    let server = Server::start(&ENDLESS);
    let (steps, prompt) = (10_000, "a red circle");
    let request = json!({ "prompt": prompt, "steps": steps, "width": 96, "height": 64 });
    let waiting = server.send(&server.json("/sdapi/v1/txt2img", &request));
    server.until(|server| {
        let progress = server.get("/sdapi/v1/progress").ok();
        progress["state"]["sampling_steps"] == steps && progress["current_image"].is_string()
    });
    server.post("/sdapi/v1/interrupt", &json!({})).ok();
    let answer = Answer::read(waiting).ok();
    assert_eq!(image(&decoded(&answer["images"][0])).dimensions(), (96, 64));
}

/// What front ends ask for at their start: lists of what is not here.
#[test]
fn lists_are_empty() {
    let server = Server::start(&[]);
    let paths = [
        "schedulers",
        "upscalers",
        "sd-vae",
        "loras",
        "latent-upscale-modes",
        "face-restorers",
    ];
    for path in paths {
        assert_eq!(
            server.get(&format!("/sdapi/v1/{path}")).ok(),
            json!([]),
            "{path}"
        );
    }
    assert_eq!(server.get("/sdapi/v1/embeddings").ok()["loaded"], json!({}));
    assert_eq!(server.get("/sdapi/v1/scripts").ok()["txt2img"], json!([]));
    assert_eq!(
        server
            .post("/sdapi/v1/refresh-checkpoints", &json!({}))
            .ok(),
        Value::Null
    );
}
