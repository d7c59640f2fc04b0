use sana_linear_attn::Weights;
use sana_linear_attn::parity::{assert_close, device, tolerance};
use sana_pipeline::image::RgbImage;
use sana_pipeline::metrics::{
    FeatureAccumulator, FidInception, FidResize, MetricsError, frechet_distance,
};

use super::fid_inputs::{image, reference, write_weights};

/// Features that the FID of the reference is of.
const FEATURES: usize = 64;

#[test]
fn features_and_fid_are_pytorch_fid_s() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fid.safetensors");
    write_weights(&path, |_| {});
    let network = FidInception::load(&path, &device()).unwrap();
    let fixture = reference();
    let left = [[64, 51], [48, 48], [45, 70]];
    let right = [[50, 50], [90, 61], [33, 40]];
    let sets = [("left", left, 0), ("right", right, 3)];
    let statistics = sets.map(|(name, sizes, first)| {
        let images: Vec<RgbImage> = (first..)
            .zip(sizes)
            .map(|(shift, size)| image(size, shift))
            .collect();
        let features = network
            .features(&images, FidResize::ShorterSide(48))
            .unwrap();
        assert_eq!(features.len(), 3);
        let expected: Vec<f32> = fixture.values(name).iter().map(|v| *v as f32).collect();
        assert_close(name, &features.concat(), &expected, tolerance());
        let mut sums = FeatureAccumulator::new(FEATURES).unwrap();
        for features in &features {
            sums.push(&features[..FEATURES]).unwrap();
        }
        sums.statistics().unwrap()
    });
    let [left, right] = &statistics;
    let fid = frechet_distance(left, right).unwrap();
    let expected = fixture.values("fid")[0];
    assert!((fid - expected).abs() < 1e-3 * expected, "{fid} {expected}");

    let whole = [image([64, 51], 0)];
    let features = network.features(&whole, FidResize::Whole).unwrap();
    let expected: Vec<f32> = fixture.values("whole").iter().map(|v| *v as f32).collect();
    assert_close("whole", &features.concat(), &expected, tolerance());
    assert!(network.features(&[], FidResize::Whole).unwrap().is_empty());
}

/// torchvision's own Inception has the same names and gives other features.
#[test]
fn weights_of_other_networks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    write_weights(&path, |shapes| {
        shapes.insert("fc.weight".into(), vec![1000, 2048]);
        shapes.insert("AuxLogits.fc.bias".into(), vec![1000]);
        shapes.remove("Mixed_7c.branch_pool.bn.bias");
    });
    let torchvision = Weights::open_file(&path).unwrap();
    let error = FidInception::from_weights(&torchvision, &device()).unwrap_err();
    assert!(matches!(error, MetricsError::Weights(_)), "{error}");
    for expected in [
        "fc.weight expected [1008, 2048] found [1000, 2048]",
        "AuxLogits.fc.bias",
        "missing 1: Mixed_7c.branch_pool.bn.bias",
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = FidInception::load(&folder.path().join("none"), &device()).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}
