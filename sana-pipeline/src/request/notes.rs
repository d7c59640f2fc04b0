//! What a user may want to know of a request that can be made: settings without effect, and those that
//! the model was not made for.

use sana_sampler::GuidanceInterval;

use super::{Request, Settings};
use crate::checkpoint::{Schedule, Solver};
use crate::spec::ModelSpec;

/// Steps that Sana-Sprint was made for, at most.
const SPRINT_STEPS: usize = 4;

impl Request {
    /// Notes on the request, with the settings that were made of it.
    pub(super) fn notes(&self, settings: &Settings, spec: &ModelSpec) -> Vec<String> {
        let mut notes = self.of_guidance(settings, spec);
        notes.extend(self.of_control(settings));
        if self.shift.is_some() && settings.solver == Solver::Scm {
            let note = "the flow shift has no effect: a consistency model (Sana-Sprint) has none";
            notes.push(note.to_owned());
        }
        if self.schedule.is_some() && (self.steps.is_some() || self.shift.is_some()) {
            let note = "steps and flow shift have no effect next to a schedule of one's own";
            notes.push(note.to_owned());
        }
        let steps = settings.schedule_steps();
        if matches!(settings.schedule, Schedule::Scm(_)) && steps > SPRINT_STEPS {
            notes.push(format!(
                "{steps} steps: this model (Sana-Sprint) was made for 1 to {SPRINT_STEPS}, and more \
                 do not make better images"
            ));
        }
        notes.extend(spec.size_note(settings.size()));
        if self.hires.strength.is_some() && self.hires.scale.is_none() {
            notes.push("the strength of a second pass has no effect without one".to_owned());
        }
        notes
    }

    fn of_guidance(&self, settings: &Settings, spec: &ModelSpec) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |text: String| notes.push(text);
        let negative = self.negatives.iter().any(|text| !text.trim().is_empty());
        let (scale, active) = (settings.guidance.scale(), settings.guidance.is_active());
        if settings.is_embedded {
            if negative {
                note(
                    "the negative prompt has no effect: this model (Sana-Sprint) makes no \
                     prediction for it"
                        .to_owned(),
                );
            }
        } else if !active {
            let without = [
                (negative, "the negative prompt"),
                (
                    self.guidance_interval != GuidanceInterval::FULL
                        && settings.perturbed_blocks.is_none(),
                    "the guidance interval",
                ),
                (
                    self.projection.is_some() && settings.perturbed_blocks.is_none(),
                    "adaptive projected guidance",
                ),
            ];
            for (_, what) in without.into_iter().filter(|(asked, _)| *asked) {
                note(format!(
                    "{what} has no effect: a guidance scale of {scale} is no guidance, above 1 is"
                ));
            }
        } else if negative && spec.built_in {
            note(
                "the built-in model was not trained with negative prompts: its images are wrong \
                 more often with one"
                    .to_owned(),
            );
        }
        if self.perturbed_blocks.is_some() && settings.perturbed_blocks.is_none() {
            let text = "the perturbed blocks have no effect: the scale of perturbed attention is 0";
            note(text.to_owned());
        }
        notes
    }

    fn of_control(&self, settings: &Settings) -> Option<String> {
        let control = settings.control?;
        if !control.is_active() {
            return Some("the control image has no effect: its scale is 0".to_owned());
        }
        // Of the steps that run, as the control image is applied.
        let steps = settings.steps();
        let applied = (0..steps).any(|step| control.applies(step, steps));
        (!applied).then(|| {
            format!(
                "the control image has no effect: none of the {} steps lies in the interval {}..{}",
                settings.steps(),
                control.start,
                control.end
            )
        })
    }
}
