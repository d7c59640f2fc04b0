//! What a checkpoint consists of, for people and programs to read.

use std::collections::BTreeMap;
use std::fmt;

use sana_linear_attn::Weights;
use serde::Serialize;

use super::fit::fitting_scheduler;
use crate::checkpoint::{Checkpoint, Component, Solver, variants};
use crate::error::PipelineError;
use crate::support::escape::escaped;
use crate::support::units::{grouped, human};

/// A checkpoint at a glance. Its [`fmt::Display`] is a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// Where it is.
    pub origin: String,
    /// The released variant, or the name it gives itself.
    pub variant: Option<String>,
    /// Class of the pipeline, such as `SanaPipeline`.
    pub pipeline: String,
    /// The solver it is sampled by: that of its scheduler, or of the one that fits its transformer.
    pub solver: String,
    /// Its parts, by name.
    pub parts: Vec<PartDescription>,
    /// Memory for the weights, by dtype; activations come on top.
    pub memory: Vec<MemoryNeed>,
}

/// A component of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartDescription {
    /// Which one.
    pub part: Component,
    /// The reference's name of its class.
    pub class: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Number of tensors of each dtype on disk.
    pub dtypes: BTreeMap<String, usize>,
    /// Bytes of the tensors on disk.
    pub bytes: u64,
    /// Parameters that inference reads from the file as it needs them: the embedding table of the
    /// text encoder.
    pub parameters_left_on_disk: u64,
}

/// Memory for the weights in one dtype.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryNeed {
    /// The dtype.
    pub dtype: &'static str,
    /// Bytes with all components in memory.
    pub all_components: u64,
    /// Bytes of the largest stage, which is what one stage at a time needs: the largest part, or the
    /// transformer with its ControlNet.
    pub one_stage: u64,
}

impl PartDescription {
    pub(crate) fn new(
        part: Component,
        class: &str,
        weights: Option<&Weights>,
        left_on_disk: usize,
    ) -> Self {
        Self {
            part,
            class: class.to_owned(),
            parameters: weights.map_or(0, |weights| weights.total_elements() as u64),
            dtypes: weights.map(Weights::dtypes).unwrap_or_default(),
            bytes: weights.map_or(0, |weights| weights.total_bytes() as u64),
            parameters_left_on_disk: left_on_disk as u64,
        }
    }

    fn loaded(&self) -> u64 {
        self.parameters.saturating_sub(self.parameters_left_on_disk)
    }
}

impl Description {
    pub(crate) fn new(
        origin: String,
        variant: Option<String>,
        pipeline: String,
        solver: Solver,
        parts: Vec<PartDescription>,
    ) -> Self {
        let all: u64 = parts.iter().map(PartDescription::loaded).sum();
        let of_stage = |stage: Component| -> u64 {
            let parts = parts.iter().filter(|part| part.part.stage() == stage);
            parts.map(PartDescription::loaded).sum()
        };
        let largest = parts.iter().map(|part| of_stage(part.part.stage())).max();
        let largest = largest.unwrap_or(0);
        let memory = [("f32", 4), ("bf16", 2), ("f16", 2)]
            .map(|(dtype, bytes)| MemoryNeed {
                dtype,
                all_components: bytes * all,
                one_stage: bytes * largest,
            })
            .to_vec();
        Self {
            origin,
            variant,
            pipeline,
            solver: solver.to_string(),
            parts,
            memory,
        }
    }

    /// Number of parameters of all components.
    pub fn parameters(&self) -> u64 {
        self.parts.iter().map(|part| part.parameters).sum()
    }
}

impl Checkpoint {
    /// The released variant it is, or the name that it gives itself.
    ///
    /// # Errors
    /// When the transformer's config is missing or not usable.
    pub fn variant_name(&self) -> Result<Option<String>, PipelineError> {
        if self.keys().variant.is_some() {
            return Ok(self.keys().variant.clone());
        }
        let config = self.transformer_config()?;
        Ok(variants::recognize(&config).map(|variant| variant.name.to_owned()))
    }

    /// What it consists of and the memory it needs, from configs and headers alone.
    ///
    /// # Errors
    /// When a part is not usable.
    pub fn describe(&self, variant: Option<&str>) -> Result<Description, PipelineError> {
        self.check_variant(variant, self.controlnet(None)?.as_ref())?;
        let mut parts = Vec::new();
        for (part, class) in self.classes() {
            let weights = match part.weights_stem() {
                Some(_) => Some(self.weights(part, variant)?),
                None => None,
            };
            // Its table stays in the file.
            let on_disk_only = match part {
                Component::TextEncoder => self.text_config()?.embedding_parameter_count(),
                _ => 0,
            };
            parts.push(PartDescription::new(
                part,
                class,
                weights.as_ref(),
                on_disk_only,
            ));
        }
        let (scheduler, _) = fitting_scheduler(self.scheduler()?, &self.transformer_config()?);
        Ok(Description::new(
            self.origin(),
            self.variant_name()?,
            self.pipeline_class().to_owned(),
            scheduler.solver(),
            parts,
        ))
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = self
            .variant
            .as_deref()
            .unwrap_or("none of the released ones");
        writeln!(f, "checkpoint  {}", escaped(&self.origin))?;
        writeln!(f, "variant     {}", escaped(variant))?;
        writeln!(
            f,
            "pipeline    {}, sampled by {}",
            escaped(&self.pipeline),
            self.solver
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<13} {:<28} {:>14} {:>10}  dtypes",
            "part", "class", "parameters", "on disk"
        )?;
        for part in &self.parts {
            let dtypes: Vec<&str> = part.dtypes.keys().map(String::as_str).collect();
            let line = format!(
                "{:<13} {:<28} {:>14} {:>10}  {}",
                part.part.folder(),
                escaped(&part.class),
                if part.parameters > 0 {
                    grouped(part.parameters)
                } else {
                    "-".to_owned()
                },
                if part.bytes > 0 {
                    human(part.bytes)
                } else {
                    "-".to_owned()
                },
                dtypes.join(", "),
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "memory for the weights    all components   one stage at a time"
        )?;
        for (index, need) in self.memory.iter().enumerate() {
            let end = if index + 1 < self.memory.len() {
                "\n"
            } else {
                ""
            };
            let (all, one) = (human(need.all_components), human(need.one_stage));
            write!(f, "  {:<22} {all:>15}   {one:>19}{end}", need.dtype)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_leaves_out_what_is_read_from_disk() {
        let part = |part, parameters, left| PartDescription {
            part,
            class: "Class".to_owned(),
            parameters,
            dtypes: BTreeMap::from([("bf16".to_owned(), 3)]),
            bytes: 2 * parameters,
            parameters_left_on_disk: left,
        };
        let description = Description::new(
            "folder".to_owned(),
            Some("sana".to_owned()),
            "SanaPipeline".to_owned(),
            Solver::FlowEuler,
            vec![
                part(Component::TextEncoder, 1000, 400),
                part(Component::Vae, 200, 0),
            ],
        );
        assert_eq!(description.parameters(), 1200);
        assert_eq!(
            description.memory[0],
            MemoryNeed {
                dtype: "f32",
                all_components: 3200,
                one_stage: 2400,
            }
        );
        let table = description.to_string();
        for text in [
            "flow-euler",
            "text_encoder",
            "1,000",
            "bf16",
            "3.20 kB",
            "2.40 kB",
        ] {
            assert!(table.contains(text), "{text} in\n{table}");
        }
        assert!(!table.ends_with('\n'));
    }
}
