//! `x W^T` with a quantized weight, by CubeK's matmul: it dequantizes each tile where it loads it, so that the
//! weight never exists as floats.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeTuneId;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind};
use burn_cubecl::cubecl::quant::scheme::{QuantScheme, QuantStore, QuantValue, ScaleDtype};
use burn_cubecl::cubecl::tune::{LocalTuner, Tunable, TunableSet, local_tuner};
use burn_cubecl::cubecl::zspace::Strides;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::{into_contiguous, untile};
use burn_cubecl::tensor::CubeTensor;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy;
use cubek::matmul::multi_level::components::tile::TileMatmulKind;
use cubek::matmul::tune_key::MatmulAutotuneKey;
use cubek::std::InputBinding;

use super::layout::{UNITS, addresses, cubes, empty, is_empty, rows};
use crate::quantization::is_whole_words;

/// Weights that share a scale, as CubeK counts: those of [`Int8Rows`](crate::quantization::Int8Rows) share
/// it with their whole row, which is longer than CubeK's blocks can be.
const BLOCK: usize = 64;
/// Bits of a word.
const WORD: usize = 32;

/// Whether rows of `inputs` integers of 8 bits are whole words.
pub(super) fn fits_int8(inputs: usize) -> bool {
    inputs > 0 && inputs.is_multiple_of(WORD / 8)
}

/// Whether rows of `inputs` integers of 4 bits are whole groups, and these whole words.
pub(super) fn fits_uint4(inputs: usize, group: usize) -> bool {
    inputs > 0
        && inputs.is_multiple_of(group)
        && is_whole_words(group)
        && u8::try_from(group).is_ok()
}

/// With [`Int8Rows`](crate::quantization::Int8Rows).
///
/// # Shapes
/// - `x` `[rows, in]`, `values` `[out, in]` of 8 bits, `scales` `[out]` in f32
/// - result `[rows, out]`
pub(super) fn int8(x: CubeTensor, values: CubeTensor, scales: CubeTensor) -> CubeTensor {
    let [columns, inputs] = values.shape().dims();
    let mut scales = scales.binding();
    // The same scale for each block of a row.
    let step = scales.strides[0];
    scales.shape = Shape::from([columns, inputs.div_ceil(BLOCK)]);
    scales.strides = Strides::from([step, 0]);
    multiply(x, (values, QuantValue::Q8S), (scales, BLOCK))
}

/// With the values of [`Uint4Groups`](crate::quantization::Uint4Groups) less 8, without zero points.
///
/// # Shapes
/// - `x` `[rows, in]`, `packed` `[out, in / 2]` of two values a byte, `scales` `[out, in / group]` in f32
/// - result `[rows, out]`
pub(super) fn uint4(
    x: CubeTensor,
    packed: CubeTensor,
    scales: CubeTensor,
    group: usize,
) -> CubeTensor {
    let values = flip(packed);
    let scales = untile(scales).binding();
    multiply(x, (values, QuantValue::Q4F), (scales, group))
}

/// A product to be computed, all of it in device memory.
#[derive(Clone)]
struct Product {
    x: CubeTensor,
    /// Integers of `[in, out]`, in words along `in`.
    weight: InputBinding,
    out: CubeTensor,
}

/// With integers that have a scale for each `block` of weights; `values` are bytes, row by row.
fn multiply(
    x: CubeTensor,
    (values, value): (CubeTensor, QuantValue),
    (scales, block): (TensorBinding, usize),
) -> CubeTensor {
    // CubeK wants one axis of each factor to be contiguous.
    let x = untile(x);
    let x = match x.meta.strides().contains(&1) {
        true => x,
        false => into_contiguous(x),
    };
    let values = rows(values, WORD / 8);
    let [columns, bytes] = values.shape().dims();
    let [count, inputs] = x.shape().dims();
    let out = empty(&x, Shape::from([count, columns]), x.dtype);
    if is_empty(&out) {
        return out;
    }
    let step = values.meta.strides()[0];
    let mut words = values.binding();
    words.shape = Shape::from([columns, bytes * 8 / WORD]);
    words.strides = Strides::from([step * 8 / WORD, 1]);
    let scheme = QuantScheme::default()
        .with_value(value)
        .with_store(QuantStore::PackedU32(0))
        .per_block([1, block as u8], ScaleDtype::F32);
    let [unsigned, float] = [DType::U32, DType::F32].map(dtype_to_storage_type);
    let shape = Shape::from([columns, inputs]);
    let mut weight = InputBinding::quantized(words, scales, shape, scheme, unsigned, float);
    weight.swap_dims(0, 1);

    let product = Product {
        x,
        weight,
        out: out.clone(),
    };
    let (client, id) = (
        out.client.clone(),
        CubeTuneId::new(&out.client, &out.device),
    );
    let of_device = client.clone();
    let ways = TUNER.init(&id, move || ways(&of_device));
    TUNER.execute(&id, &client, ways, product);
    out
}

static TUNER: LocalTuner<MatmulAutotuneKey, CubeTuneId> = local_tuner!();

/// The ways through CubeK that suit a device. The fastest is found once for each kind of shape; without matrix
/// units there is one.
fn ways(client: &Client) -> TunableSet<MatmulAutotuneKey, Product, ()> {
    let mut ways = vec![Strategy::SimpleUnit(Default::default())];
    if has_matrix_units(client, TileMatmulKind::Cmma) {
        ways.extend([
            Strategy::SimpleCyclicCmma(Default::default()),
            Strategy::DoubleCyclicCmma(Default::default()),
            Strategy::OrderedDoubleCmma(Default::default()),
        ]);
    }
    if has_matrix_units(client, TileMatmulKind::Mma) {
        ways.extend([
            Strategy::SimpleCyclicMma(Default::default()),
            Strategy::DoubleCyclicMma(Default::default()),
            Strategy::OrderedDoubleMma(Default::default()),
        ]);
    }
    let set = TunableSet::new_cloning_inputs(key);
    ways.into_iter().fold(set, |set, way| {
        let name = way.to_string();
        set.with(Tunable::new(&name, move |product: Product| {
            // What is fastest for a shape serves others of its kind, which it may not suit.
            let found = product.clone().compute(way.clone());
            found
                .or_else(|_| product.compute(Strategy::SimpleUnit(Default::default())))
                .map_err(|error| format!("{error:?}"))
        }))
    })
}

/// Whether there are such for 16-bit floats, or for f32 rounded to TF32.
fn has_matrix_units(client: &Client, kind: TileMatmulKind) -> bool {
    let float = |float| ElemType::Float(float);
    let sum = float(FloatKind::F32);
    [FloatKind::F16, FloatKind::BF16, FloatKind::TF32]
        .map(float)
        .into_iter()
        .any(|factor| !kind.supported_sizes(client, factor, factor, sum).is_empty())
}

fn key(product: &Product) -> MatmulAutotuneKey {
    let Product { x, weight, out } = product;
    let data = weight.data();
    let dtype = dtype_to_storage_type(x.dtype);
    MatmulAutotuneKey::generate(
        &x.client,
        x.meta.shape(),
        weight.shape(),
        x.meta.strides(),
        &data.strides,
        x.meta.tiling,
        data.tiling,
        dtype,
        // As it is stored: 8 bits and 4 are tuned apart.
        dtype_to_storage_type(match weight.scheme().map(|scheme| scheme.value) {
            Some(QuantValue::Q8S) => DType::I8,
            _ => DType::U8,
        }),
        dtype_to_storage_type(out.dtype),
        None,
        weight.scheme(),
    )
}

impl Product {
    fn compute(self, way: Strategy) -> Result<(), MatmulSetupError> {
        let dtype = dtype_to_storage_type(self.x.dtype);
        let mut dtypes = MatmulElems::from_globals(&MatmulGlobalElems {
            lhs: dtype,
            rhs: dtype,
            out: dtype,
        });
        let client = self.out.client.clone();
        let x = InputBinding::new(self.x.binding(), dtype);
        launch_ref(
            &way.into(),
            &client,
            x,
            self.weight,
            self.out.binding(),
            &mut dtypes,
        )
    }
}

/// Flips the highest bit of each 4-bit value: what was `v` is `v - 8` as a signed number. Rows of `words`
/// words, `step` apart in the input.
#[cube(launch_unchecked, address_type = "dynamic")]
fn flip_bits(
    input: &Tensor<u32>,
    output: &mut Tensor<u32>,
    words: usize,
    step: usize,
    count: usize,
) {
    let place = ABSOLUTE_POS;
    if place < count {
        output[place] = input[place / words * step + place % words] ^ 0x8888_8888u32;
    }
}

/// Bytes of two 4-bit values, flipped and without gaps between the rows.
fn flip(packed: CubeTensor) -> CubeTensor {
    let packed = rows(packed, WORD / 8);
    let out = empty(&packed, packed.shape(), packed.dtype);
    if is_empty(&out) {
        return out;
    }
    let [columns, bytes] = packed.shape().dims();
    let (words, step) = (bytes * 8 / WORD, packed.meta.strides()[0] * 8 / WORD);
    let count = columns * words;
    let as_words = |tensor: &CubeTensor, step: usize| {
        let mut binding = tensor.clone().binding();
        binding.shape = Shape::from([columns, words]);
        binding.strides = Strides::from([step, 1]);
        binding.into_tensor_arg()
    };
    // SAFETY: a unit below `count` reads a word of one of the rows, which are `step` words apart, and writes the
    // one of its number, of which the output has `count`.
    unsafe {
        flip_bits::launch_unchecked(
            &packed.client.clone(),
            cubes(count.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            addresses(&[&packed, &out]),
            as_words(&packed, step),
            as_words(&out, words),
            words,
            step,
            count,
        );
    }
    out
}
