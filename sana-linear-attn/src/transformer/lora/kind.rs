//! Kinds of adapters, by the tensors that they have.

use std::collections::BTreeMap;

use super::names::Role;

/// Names of the tensors that change one layer.
pub(super) type Tensors = BTreeMap<Role, String>;

/// What the change of a layer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoraKind {
    /// `B A`.
    Lora,
    /// `B A`, and the length of each row of the weight ([arXiv 2402.09353](https://arxiv.org/abs/2402.09353)).
    Dora,
    /// The element-wise product of two matmuls.
    LoHa,
    /// A Kronecker product.
    LoKr,
}

impl LoraKind {
    /// Its name in the literature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lora => "LoRA",
            Self::Dora => "DoRA",
            Self::LoHa => "LoHa",
            Self::LoKr => "LoKr",
        }
    }
}

pub(super) fn kind_of(tensors: &Tensors) -> LoraKind {
    let has = |from: Role, to: Role| tensors.range(from..=to).next().is_some();
    match () {
        () if has(Role::HadaW1A, Role::HadaW2B) => LoraKind::LoHa,
        () if has(Role::LokrW1, Role::LokrW2B) => LoraKind::LoKr,
        () if tensors.contains_key(&Role::Magnitude) => LoraKind::Dora,
        () => LoraKind::Lora,
    }
}

/// One of the two factors of a LoKr: whole, or a matmul of two.
pub(super) const LOKR: [[Role; 3]; 2] = [
    [Role::LokrW1, Role::LokrW1A, Role::LokrW1B],
    [Role::LokrW2, Role::LokrW2A, Role::LokrW2B],
];
pub(super) const LOHA: [[Role; 2]; 2] = [
    [Role::HadaW1A, Role::HadaW1B],
    [Role::HadaW2A, Role::HadaW2B],
];
