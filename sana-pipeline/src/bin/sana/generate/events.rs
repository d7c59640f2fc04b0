//! What a run reports: lines for people, or with `--json` events for programs. docs/cli.md describes
//! the events; what is there keeps its name and meaning.

use std::fmt::Display;
use std::io::{self, Stdout, Write};
use std::path::Path;

use sana_pipeline::memory::StageReport;
use serde::{Serialize, Serializer};

use crate::model::Model;
use crate::terminal::{self, Output, complain, output, write_stages};

/// The version of the events. It is raised where a program that reads them would have to change.
const SCHEMA: u32 = 1;

/// One event. On a line of its own it is an object whose `event` is its name.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// Everything was checked, and the work begins.
    Started(Started<'a>),
    /// A step of the solver was made.
    Step {
        /// From 1.
        step: usize,
        steps: usize,
        /// Of how many; with `--hires` the second makes the images larger.
        pass: usize,
        passes: usize,
        /// Which of the images of this run, from 0.
        images: &'a [usize],
    },
    /// An image was written.
    Image(Written<'a>),
    /// What a user may want to know.
    Notes { notes: Vec<String> },
    /// All is written.
    Done {
        /// Images that were made.
        images: usize,
        /// Images that existed.
        skipped: usize,
        seconds: f64,
        stages: Vec<Stage>,
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
        grid: Option<&'a Path>,
    },
    /// The run failed; nothing comes after it.
    Error {
        message: String,
        /// What caused it, the nearest first.
        causes: Vec<String>,
    },
}

/// What is known when the work begins.
#[derive(Debug, Serialize)]
pub struct Started<'a> {
    schema: u32,
    version: &'static str,
    model: &'a str,
    /// The commit of a model from the Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'a str>,
    device: String,
    /// Images of this run, existing ones included.
    images: usize,
    /// Those that exist and are skipped.
    existing: usize,
}

/// An image that was written.
#[derive(Debug, Serialize)]
pub struct Written<'a> {
    /// Which of the images of this run, from 0.
    pub image: usize,
    #[serde(serialize_with = "path_shown")]
    pub path: &'a Path,
    pub seed: u64,
    /// The prompt that it was made of, wildcards replaced.
    pub prompt: &'a str,
    pub width: u32,
    pub height: u32,
    /// Its line in the file of prompts, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// What a stage took.
#[derive(Debug, Serialize)]
pub struct Stage {
    stage: &'static str,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_memory_bytes: Option<u64>,
}

impl From<&StageReport> for Stage {
    fn from(report: &StageReport) -> Self {
        Self {
            stage: report.name,
            seconds: report.seconds,
            peak_memory_bytes: report.peak_memory_bytes,
            device_memory_bytes: report.device_memory_bytes,
        }
    }
}

fn shown<S: Serializer>(path: &Option<&Path>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => path_shown(path, serializer),
        None => serializer.serialize_none(),
    }
}

fn path_shown<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Where a run reports. Lines for people are on standard output; where that has events, on standard
/// error.
pub struct Report {
    out: Output<Stdout>,
    json: bool,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self {
            out: output(),
            json,
        }
    }

    /// A line for people.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        match self.json {
            true => complain(&format!("{}\n", sana_pipeline::escaped(&text.to_string()))),
            false => self.out.line(text)?,
        }
        Ok(())
    }

    /// An event, for programs only.
    pub fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        match self.json {
            true => self.out.json_line(event),
            false => Ok(()),
        }
    }

    /// The work begins.
    pub fn started(&mut self, model: &Model, images: usize, existing: usize) -> io::Result<()> {
        self.event(&Event::Started(Started {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            model: &model.name,
            revision: model.revision.as_deref(),
            device: model.device.name.to_string(),
            images,
            existing,
        }))
    }

    /// Notes on the request.
    pub fn notes(&mut self, notes: impl IntoIterator<Item = String>) -> io::Result<()> {
        let notes: Vec<String> = notes.into_iter().collect();
        for note in &notes {
            self.line(format_args!("note: {note}"))?;
        }
        self.noted(notes)
    }

    /// What was decided while components were loaded, which people read on standard error.
    pub fn model_notes(&mut self, model: &Model) -> io::Result<()> {
        model.print_notes();
        self.noted(model.pipeline.notes().to_vec())
    }

    /// Warnings, which people read on standard error.
    pub fn warnings(&mut self, warnings: impl IntoIterator<Item = String>) -> io::Result<()> {
        let warnings: Vec<String> = warnings.into_iter().collect();
        warnings.iter().for_each(terminal::warning);
        self.noted(warnings)
    }

    fn noted(&mut self, notes: Vec<String>) -> io::Result<()> {
        match notes.is_empty() {
            true => Ok(()),
            false => self.event(&Event::Notes { notes }),
        }
    }

    /// What the stages took, for people: events have it at the end.
    pub fn stages(&mut self, stages: &[StageReport]) -> io::Result<()> {
        write_stages(stages, self)
    }

    /// That the run failed.
    pub fn failed(&mut self, error: &anyhow::Error) {
        let message = error.to_string();
        let mut causes: Vec<String> = Vec::new();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            // An error that stands for another one says the same.
            if *causes.last().unwrap_or(&message) != cause {
                causes.push(cause);
            }
        }
        // The error itself is reported on standard error whatever happens here.
        let _ = self.event(&Event::Error { message, causes });
    }
}

impl Write for Report {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.json {
            true => {
                complain(&String::from_utf8_lossy(bytes));
                Ok(bytes.len())
            }
            false => self.out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_schema() {
        let value = |event: Event<'_>| serde_json::to_value(event).unwrap();
        let image = Written {
            image: 1,
            path: Path::new("a/b.png"),
            seed: u64::MAX,
            prompt: "a",
            width: 96,
            height: 64,
            line: None,
        };
        assert_eq!(
            value(Event::Image(image)),
            json!({"event": "image", "image": 1, "path": "a/b.png", "seed": u64::MAX,
                   "prompt": "a", "width": 96, "height": 64})
        );
        let step = Event::Step {
            step: 1,
            steps: 20,
            pass: 1,
            passes: 1,
            images: &[0, 1],
        };
        assert_eq!(
            value(step),
            json!({"event": "step", "step": 1, "steps": 20, "pass": 1, "passes": 1,
                   "images": [0, 1]})
        );
        let done = Event::Done {
            images: 1,
            skipped: 0,
            seconds: 0.5,
            stages: vec![Stage {
                stage: "text",
                seconds: 0.25,
                peak_memory_bytes: Some(3),
                device_memory_bytes: None,
            }],
            grid: Some(Path::new("g.png")),
        };
        assert_eq!(
            value(done),
            json!({"event": "done", "images": 1, "skipped": 0, "seconds": 0.5, "grid": "g.png",
                   "stages": [{"stage": "text", "seconds": 0.25, "peak_memory_bytes": 3}]})
        );
    }
}
