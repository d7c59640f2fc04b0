//! Batches, padding and perturbed items.

use super::*;

/// The perturbed path of the last items of a batch is that of the whole batch, whatever the blocks
/// before the first perturbed one share, and leaves the others as they are, query and key norm
/// included. Which block is perturbed matters.
#[test]
fn perturbed_attention_leaves_the_batch_as_it_is() {
    let device = device();
    for (name, config) in variants() {
        let model = Checkpoint::random(&config.init(&device)).load(&config, DType::F32, &device);
        let inputs = Inputs::random(&config, 3, GRID, &device);
        let text = model.text_context(inputs.caption.clone(), Some(inputs.mask.clone()));
        assert_eq!(text.batch(), 3);
        let with = |blocks: &[usize], first: usize| {
            let blocks = config
                .perturbed_blocks(blocks.iter().copied())
                .expect("blocks of the network");
            let last = text.items(first..3);
            let input = inputs.given(&text).with_perturbed(&blocks, &last);
            let output = model.forward(input);
            let perturbed = output.perturbed.expect("it was asked for");
            (output.velocity, perturbed)
        };
        let plain = run(&model, &inputs);
        let (velocity, all) = with(&[1], 0);
        assert_close(name, &values(velocity), &plain, tolerance());
        let (velocity, last) = with(&[1], 1);
        assert_close(name, &values(velocity), &plain, tolerance());
        let expected = values(all.clone().narrow(0, 1, 2));
        assert_close(name, &values(last), &expected, tolerance());

        let all = values(all);
        let others: [&[usize]; 5] = [&[0], &[2], &[0, 1], &[1, 2], &[0, 1, 2]];
        for blocks in others {
            let other = values(with(blocks, 0).1);
            let change = distance(&other, &all) / largest(&all);
            assert!(
                change > 1e-2,
                "{name}: blocks {blocks:?} differ by {change:e} only"
            );
        }
        let change = distance(&plain, &all) / largest(&all);
        assert!(change > 1e-2, "{name}: perturbed by {change:e} only");
    }
}

/// The items of a batch, with texts of different lengths, do not see each other.
#[test]
fn a_batch_equals_its_items_alone() {
    let device = device();
    for (name, config) in variants() {
        let model = Checkpoint::random(&config.init(&device)).load(&config, DType::F32, &device);
        let inputs = Inputs::random(&config, 3, GRID, &device);
        let together = run(&model, &inputs);
        for (index, item) in together.chunks(together.len() / 3).enumerate() {
            let alone = run(&model, &inputs.item(index));
            assert_close(&format!("{name}: item {index}"), item, &alone, tolerance());
        }
    }
}

/// Text tokens whose mask is 0 may hold anything, may be added or left away; a mask of ones is no
/// mask.
#[test]
fn text_padding_changes_nothing() {
    let device = device();
    let (batch, extra) = (3, 4);
    for (name, config) in variants() {
        let model = Checkpoint::random(&config.init(&device)).load(&config, DType::F32, &device);
        let inputs = Inputs::random(&config, batch, GRID, &device);
        let reference = run(&model, &inputs);

        let channels = config.caption_channels;
        let hidden = (inputs.mask.clone() - 1.0).unsqueeze_dim::<3>(2); // [batch, text_tokens, 1]
        let other = tensor([batch, TEXT_TOKENS, channels], 50.0, 77, &device) * hidden;
        let replaced = Inputs {
            caption: inputs.caption.clone() + other,
            ..inputs.clone()
        };
        let what = format!("{name}: other values under the mask");
        assert_close(&what, &run(&model, &replaced), &reference, tolerance());

        let more = tensor([batch, extra, channels], 50.0, 78, &device);
        let longer = |mask_of_more: Tensor<2>| Inputs {
            caption: Tensor::cat(vec![inputs.caption.clone(), more.clone()], 1),
            mask: Tensor::cat(vec![inputs.mask.clone(), mask_of_more], 1),
            ..inputs.clone()
        };
        let padded = longer(Tensor::zeros([batch, extra], (&device, DType::F32)));
        let what = format!("{name}: {extra} tokens more under the mask");
        assert_close(&what, &run(&model, &padded), &reference, tolerance());

        let seen = longer(Tensor::ones([batch, extra], (&device, DType::F32)));
        let change = distance(&run(&model, &seen), &reference) / largest(&reference);
        assert!(
            change > 0.1,
            "{name}: {extra} visible tokens more change the output by {change:e} of its magnitude"
        );

        let unmasked = model.text_context(inputs.caption.clone(), None);
        let unmasked = values(model.forward(inputs.given(&unmasked)).velocity);
        let ones = Inputs {
            mask: Tensor::ones([batch, TEXT_TOKENS], (&device, DType::F32)),
            ..inputs
        };
        let what = format!("{name}: a mask of ones");
        assert_close(&what, &run(&model, &ones), &unmasked, tolerance());
    }
}
