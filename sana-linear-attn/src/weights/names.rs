//! Names and shapes of a module's parameters as a checkpoint has them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// How parameter names become checkpoint names: `(ours, theirs)` replacements of dotted parts,
/// tried in order, the first that matches applied.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyMap(pub &'static [(&'static str, &'static str)]);

impl KeyMap {
    pub(super) fn to_checkpoint(self, ours: &str) -> String {
        for (from, to) in self.0 {
            if ours.contains(from) {
                return ours.replacen(from, to, 1);
            }
        }
        ours.to_owned()
    }
}

/// The dotted path of the parameter being visited: fields and list indices; options and enum
/// variants add nothing.
#[derive(Debug, Default)]
pub(super) struct ModulePath(Vec<String>);

impl ModulePath {
    pub fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_owned());
        }
    }

    pub fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    pub fn join(&self) -> String {
        self.0.join(".")
    }
}

struct ShapeVisitor {
    path: ModulePath,
    shapes: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for ShapeVisitor {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.shapes
            .push((self.path.join(), param.lazy_shape().to_vec()));
    }
}

/// Names and shapes of a module's parameters as a checkpoint has them. Allocates nothing.
pub fn parameter_shapes<M: Module>(module: &M, key_map: KeyMap) -> Vec<(String, Vec<usize>)> {
    let mut visitor = ShapeVisitor {
        path: ModulePath::default(),
        shapes: Vec::new(),
    };
    module.visit(&mut visitor);
    visitor
        .shapes
        .into_iter()
        .map(|(path, shape)| (key_map.to_checkpoint(&path), shape))
        .collect()
}
