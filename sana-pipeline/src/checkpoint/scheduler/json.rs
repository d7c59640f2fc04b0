//! Reading and writing a scheduler's JSON.

use std::borrow::Cow;

use sana_sampler::{DpmSolverOptions, Order, SigmaData};
use serde_json::{Map, Value, json};

use super::{DPM, EULER, SCM, Scheduler};
use crate::error::CheckpointError;

const CLASSES: &[&str] = &[DPM, EULER, SCM];

impl Scheduler {
    /// Reads the text of a `scheduler_config.json`; `origin` names it in errors. `NaN`,
    /// `Infinity` and `-Infinity`, which published files contain although JSON has no such
    /// numbers, are accepted where the value has no effect.
    ///
    /// # Errors
    /// [`CheckpointError::Json`], [`CheckpointError::SchedulerClass`] or
    /// [`CheckpointError::SchedulerOption`].
    pub fn from_json(origin: &str, text: &str) -> Result<Self, CheckpointError> {
        let options: Map<String, Value> =
            serde_json::from_str(&quote_non_finite(text)).map_err(|source| {
                CheckpointError::Json {
                    origin: origin.to_owned(),
                    source,
                }
            })?;
        let options = Options { origin, options };
        match options.text("_class_name") {
            Some(DPM) => options.dpm(),
            Some(EULER) => options.euler(),
            Some(SCM) => options.scm(),
            found => Err(CheckpointError::SchedulerClass {
                origin: origin.to_owned(),
                found: found.unwrap_or_default().to_owned(),
                expected: CLASSES,
            }),
        }
    }

    /// A `scheduler_config.json` that this crate and the reference implementation read. Options
    /// that the reference would take another default for are all there.
    pub fn to_json(&self) -> String {
        let config = match *self {
            Self::FlowDpm { options, shift } => json!({
                "_class_name": DPM,
                "algorithm_type": "dpmsolver++",
                "euler_at_final": false,
                "final_sigmas_type": "zero",
                "flow_shift": shift,
                "lower_order_final": options.lower_order_final,
                "num_train_timesteps": 1000,
                "prediction_type": "flow_prediction",
                "solver_order": options.order as usize,
                "solver_type": "midpoint",
                "thresholding": false,
                "use_flow_sigmas": true,
                "use_karras_sigmas": false,
            }),
            Self::FlowEuler { shift } => json!({
                "_class_name": EULER,
                "num_train_timesteps": 1000,
                "shift": shift,
                "use_dynamic_shifting": false,
            }),
            Self::Scm { sigma_data } => json!({
                "_class_name": SCM,
                "num_train_timesteps": 1000,
                "prediction_type": "trigflow",
                "sigma_data": sigma_data.value(),
            }),
        };
        format!("{config:#}\n")
    }
}

/// The options of one file. Absent and `null` ones have the reference's default.
struct Options<'a> {
    origin: &'a str,
    options: Map<String, Value>,
}

impl Options<'_> {
    fn get(&self, option: &str) -> Option<&Value> {
        self.options.get(option).filter(|value| !value.is_null())
    }

    fn text(&self, option: &str) -> Option<&str> {
        self.get(option).and_then(Value::as_str)
    }

    fn unsupported(&self, option: &'static str, found: &Value, supported: &str) -> CheckpointError {
        CheckpointError::SchedulerOption {
            origin: self.origin.to_owned(),
            option,
            found: found.to_string(),
            supported: supported.to_owned(),
        }
    }

    /// Refuses an option whose value, or whose default where it is absent, is not `supported`.
    fn require(
        &self,
        option: &'static str,
        default: Value,
        supported: Value,
    ) -> Result<(), CheckpointError> {
        let found = self.get(option).unwrap_or(&default);
        let same_number = found.as_f64().zip(supported.as_f64());
        if *found == supported || same_number.is_some_and(|(a, b)| a == b) {
            return Ok(());
        }
        Err(self.unsupported(option, found, &supported.to_string()))
    }

    fn off(&self, options: &[&'static str]) -> Result<(), CheckpointError> {
        options
            .iter()
            .try_for_each(|option| self.require(option, json!(false), json!(false)))
    }

    fn number(&self, option: &'static str, default: f64) -> Result<f64, CheckpointError> {
        match self.get(option) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|number| (1e-6..=1e6).contains(number))
                .ok_or_else(|| {
                    self.unsupported(option, value, "a positive number from 1e-6 to 1e6")
                }),
        }
    }

    fn flag(&self, option: &'static str, default: bool) -> Result<bool, CheckpointError> {
        match self.get(option) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.unsupported(option, value, "true or false")),
        }
    }

    /// With flow sigmas and a final sigma of zero, the betas, `timestep_spacing`, `steps_offset`,
    /// `lambda_min_clipped`, `variance_type` and `euler_at_final` have no effect.
    fn dpm(&self) -> Result<Scheduler, CheckpointError> {
        self.require("num_train_timesteps", json!(1000), json!(1000))?;
        // The reference maps these names of other schedulers to the one and the other.
        if self.text("algorithm_type") != Some("deis") {
            self.require("algorithm_type", json!("dpmsolver++"), json!("dpmsolver++"))?;
        }
        if !matches!(self.text("solver_type"), Some("logrho" | "bh1" | "bh2")) {
            self.require("solver_type", json!("midpoint"), json!("midpoint"))?;
        }
        self.require(
            "prediction_type",
            json!("epsilon"),
            json!("flow_prediction"),
        )?;
        self.require("use_flow_sigmas", json!(false), json!(true))?;
        self.require("final_sigmas_type", json!("zero"), json!("zero"))?;
        self.off(&[
            "thresholding",
            "use_karras_sigmas",
            "use_exponential_sigmas",
            "use_beta_sigmas",
            "use_lu_lambdas",
            "use_dynamic_shifting",
        ])?;
        let order = json!(2);
        let order = self.get("solver_order").unwrap_or(&order);
        let order = order
            .as_u64()
            .and_then(|order| Order::try_from(usize::try_from(order).ok()?).ok())
            .ok_or_else(|| self.unsupported("solver_order", order, "1, 2 or 3"))?;
        Ok(Scheduler::FlowDpm {
            options: DpmSolverOptions {
                order,
                lower_order_final: self.flag("lower_order_final", true)?,
                ..DpmSolverOptions::default()
            },
            shift: self.number("flow_shift", 1.0)?,
        })
    }

    fn euler(&self) -> Result<Scheduler, CheckpointError> {
        self.require("num_train_timesteps", json!(1000), json!(1000))?;
        self.off(&[
            "use_dynamic_shifting",
            "use_karras_sigmas",
            "use_exponential_sigmas",
            "use_beta_sigmas",
            "invert_sigmas",
            "stochastic_sampling",
        ])?;
        // The reference takes 0 for none.
        if self.get("shift_terminal").and_then(Value::as_f64) != Some(0.0) {
            self.require("shift_terminal", Value::Null, Value::Null)?;
        }
        Ok(Scheduler::FlowEuler {
            shift: self.number("shift", 1.0)?,
        })
    }

    fn sigma_data(&self) -> Result<SigmaData, CheckpointError> {
        let found = self.number("sigma_data", 0.5)?;
        SigmaData::new(found).map_err(|_| {
            self.unsupported(
                "sigma_data",
                &json!(found),
                "a positive number from 1e-6 to 1e6",
            )
        })
    }

    fn scm(&self) -> Result<Scheduler, CheckpointError> {
        self.require("prediction_type", json!("trigflow"), json!("trigflow"))?;
        Ok(Scheduler::Scm {
            sigma_data: self.sigma_data()?,
        })
    }
}

/// JSON with its bare `NaN`, `Infinity` and `-Infinity`, as Python writes them, put in quotes.
/// Text inside strings stays as it is.
pub(super) fn quote_non_finite(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    let mut quoted = String::new();
    let mut copied = 0;
    let mut in_string = false;
    let mut position = 0;
    let bytes = text.as_bytes();
    while position < bytes.len() {
        match bytes[position] {
            b'\\' if in_string => position += 1,
            b'"' => in_string = !in_string,
            b'-' | b'I' | b'N' if !in_string => {
                let rest = &bytes[position..];
                if let Some(word) = WORDS.iter().find(|word| rest.starts_with(word.as_bytes())) {
                    quoted += &text[copied..position];
                    quoted += &format!("\"{word}\"");
                    position += word.len();
                    copied = position;
                    continue;
                }
            }
            _ => {}
        }
        position += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    quoted += &text[copied..];
    Cow::Owned(quoted)
}
