use crate::support::{Outcome, Workplace, checkpoint};

#[test]
fn the_cpu_works() {
    let said = Workplace::new().sana(&["devices"]).quiet_success();
    let flex = said
        .lines()
        .find(|line| line.starts_with("flex "))
        .expect(&said);
    assert!(flex.contains("works in f32"), "{flex}");
    for backend in ["cuda", "rocm", "metal", "vulkan", "wgpu"] {
        assert!(
            said.lines().any(|line| line.starts_with(backend)),
            "{backend} in {said}"
        );
    }
}

#[test]
fn unknown_devices_list_the_known_ones() {
    let here = Workplace::new();
    for device in ["tpu", "cuda:x", "gpu:0"] {
        here.sana(&["generate", "a", "--device", device]).fails(
            2,
            &[
                device,
                "--device",
                "flex (the CPU), cuda, rocm, metal, vulkan and wgpu",
                "this build has flex",
            ],
        );
    }
    here.sana_on_fixture(&["decode", "x", "--dtype", "f64"])
        .fails(2, &["f64", "f32, bf16, f16"]);
}

/// Runs `sana generate` on the fixtures' checkpoint and this device.
fn generate_on(here: &Workplace, device: &str) -> Outcome {
    let checkpoint = checkpoint();
    let model = checkpoint.to_str().unwrap();
    here.sana(&["generate", "a", "--device", device, "--model", model])
}

#[test]
fn a_device_number_beyond_the_last() {
    let here = Workplace::new();
    generate_on(&here, "flex:3").fails(1, &["no device flex:3", "flex has 1, counted from 0"]);
    assert!(here.files().is_empty());
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_not_in_this_build() {
    let here = Workplace::new();
    let expected = [
        "cuda:0 is not in this build",
        "flex",
        "cargo feature cuda",
        "NVIDIA",
    ];
    generate_on(&here, "cuda:0").fails(1, &expected);
    assert!(here.files().is_empty());
}

/// With a GPU this is no error, without one it must not be a panic.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
#[test]
fn a_gpu_that_is_not_there() {
    let here = Workplace::new();
    for device in ["cuda", "vulkan"] {
        let outcome = generate_on(&here, &format!("{device}:999"));
        outcome.fails(1, &[device]);
    }
}
