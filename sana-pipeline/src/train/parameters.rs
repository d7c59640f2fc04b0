use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

/// The parameters of a module as flat tensors without autodiff, in the module's own order. Names
/// are those of a checkpoint.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// Dotted paths.
    pub names: Vec<String>,
    /// Shapes in the module.
    pub shapes: Vec<Vec<usize>>,
    /// One flat tensor per parameter.
    pub values: Vec<Tensor<1>>,
}

impl Parameters {
    /// Reads the parameters of a module.
    pub fn of<M: Module>(module: &M) -> Self {
        let (names, shapes) =
            sana_linear_attn::weights::parameter_shapes(module, Default::default())
                .into_iter()
                .unzip();
        let mut reader = Reader(Vec::new());
        module.visit(&mut reader);
        Self {
            names,
            shapes,
            values: reader.0,
        }
    }

    /// Writes these values into a module of the same shape. With `track`, every parameter becomes
    /// a leaf of a new autodiff graph.
    pub fn write_into<M: Module>(&self, module: M, track: bool) -> M {
        module.map(&mut Writer {
            values: self.values.iter(),
            track,
        })
    }

    /// Number of scalars.
    pub fn count(&self) -> usize {
        self.values.iter().map(|value| value.dims()[0]).sum()
    }
}

/// Gradients of a module's parameters, flat, in the module's own order; `None` where none arrived.
pub fn gradients<M: Module>(module: &M, gradients: &Gradients) -> Vec<Option<Tensor<1>>> {
    let mut reader = GradientReader {
        gradients,
        found: Vec::new(),
    };
    module.visit(&mut reader);
    reader.found
}

struct Reader(Vec<Tensor<1>>);

impl ModuleVisitor for Reader {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        let length = value.shape().num_elements();
        self.0.push(value.reshape([length]));
    }
}

struct GradientReader<'a> {
    gradients: &'a Gradients,
    found: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for GradientReader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients).map(|gradient| {
            let length = gradient.shape().num_elements();
            gradient.reshape([length])
        });
        self.found.push(gradient);
    }
}

struct Writer<'a> {
    values: std::slice::Iter<'a, Tensor<1>>,
    track: bool,
}

impl ModuleMapper for Writer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape: [usize; D] = param.lazy_shape().dims();
        let value = self
            .values
            .next()
            .expect("as many values as the module has parameters");
        let value = value.clone().reshape(shape);
        let value = if self.track {
            value.autodiff().require_grad()
        } else {
            value
        };
        Param::initialized(param.id, value)
    }
}
