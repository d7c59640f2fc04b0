use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

/// Parameters of a module, all or some, as flat tensors without autodiff, in the module's own
/// order. Names are those of a checkpoint.
#[derive(Debug, Clone)]
pub(in crate::train) struct Parameters {
    /// Dotted paths.
    pub names: Vec<String>,
    /// Shapes in the module.
    pub shapes: Vec<Vec<usize>>,
    /// One flat tensor per parameter.
    pub values: Vec<Tensor<1>>,
    /// For each parameter of the module whether it is one of these.
    members: Vec<bool>,
}

impl Parameters {
    /// Reads the parameters of a module.
    pub fn of<M: Module>(module: &M) -> Self {
        let (names, shapes): (Vec<_>, _) =
            sana_linear_attn::weights::parameter_shapes(module, Default::default())
                .into_iter()
                .unzip();
        let mut reader = Reader(Vec::new());
        module.visit(&mut reader);
        Self {
            members: vec![true; names.len()],
            names,
            shapes,
            values: reader.0,
        }
    }

    /// The parameters of a whole module with these names, shapes and values.
    #[cfg(test)]
    pub fn new<const N: usize>(parameters: [(&str, &[usize], Tensor<1>); N]) -> Self {
        Self {
            names: parameters.iter().map(|(name, ..)| (*name).into()).collect(),
            shapes: parameters
                .iter()
                .map(|(_, shape, _)| shape.to_vec())
                .collect(),
            values: parameters.into_iter().map(|(.., value)| value).collect(),
            members: vec![true; N],
        }
    }

    /// Those whose names satisfy a condition, and the others.
    pub fn partition(self, condition: impl Fn(&str) -> bool) -> (Self, Self) {
        let chosen: Vec<bool> = self.names.iter().map(|name| condition(name)).collect();
        (self.pick(&chosen, true), self.pick(&chosen, false))
    }

    /// Those for which `chosen` has the value `wanted`.
    fn pick(&self, chosen: &[bool], wanted: bool) -> Self {
        let mut picked = Self {
            names: Vec::new(),
            shapes: Vec::new(),
            values: Vec::new(),
            members: self.members.clone(),
        };
        let members = picked.members.iter_mut().filter(|member| **member);
        for (index, member) in members.enumerate() {
            *member = chosen[index] == wanted;
            if *member {
                picked.names.push(self.names[index].clone());
                picked.shapes.push(self.shapes[index].clone());
                picked.values.push(self.values[index].clone());
            }
        }
        picked
    }

    /// Writes these values into a module of the same shape. With `track`, each of them becomes a
    /// leaf of a new autodiff graph, and the module's other parameters constants of it.
    pub fn write_into<M: Module>(&self, module: M, track: bool) -> M {
        module.map(&mut Writer {
            values: self.values.iter(),
            members: self.members.iter(),
            track,
        })
    }

    /// Gradients of these parameters of a module, flat; `None` where none arrived.
    pub fn gradients<M: Module>(
        &self,
        module: &M,
        gradients: &Gradients,
    ) -> Vec<Option<Tensor<1>>> {
        let mut reader = GradientReader {
            gradients,
            members: self.members.iter(),
            found: Vec::new(),
        };
        module.visit(&mut reader);
        reader.found
    }

    /// Number of scalars.
    pub fn count(&self) -> usize {
        self.values.iter().map(|value| value.dims()[0]).sum()
    }
}

/// Whether a parameter of the module is a leaf of an autodiff graph that wants its gradient.
pub(in crate::train) fn is_trained<M: Module>(module: &M) -> bool {
    let mut finder = TrackedFinder(false);
    module.visit(&mut finder);
    finder.0
}

struct TrackedFinder(bool);

impl ModuleVisitor for TrackedFinder {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 |= param.val().is_require_grad();
    }
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
    members: std::slice::Iter<'a, bool>,
    found: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for GradientReader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.members.next().is_none_or(|member| !member) {
            return;
        }
        let gradient = param.val().grad(self.gradients).map(|gradient| {
            let length = gradient.shape().num_elements();
            gradient.reshape([length])
        });
        self.found.push(gradient);
    }
}

struct Writer<'a> {
    values: std::slice::Iter<'a, Tensor<1>>,
    members: std::slice::Iter<'a, bool>,
    track: bool,
}

impl ModuleMapper for Writer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.members.next().is_none_or(|member| !member) {
            return match self.track {
                true => Param::initialized(param.id, param.val().inner().autodiff()),
                false => param,
            };
        }
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

/// Moves a tensor out, so that its storage can be reused in place.
pub(super) fn take(tensor: &mut Tensor<1>) -> Tensor<1> {
    let empty = Tensor::empty([0], &tensor.device());
    std::mem::replace(tensor, empty)
}
