//! `trainer_state.json` as transformers writes it, for the viewers and scripts that read it.
//!
//! Keys are sorted, the indent is 2, numbers are written as Python's `repr` writes them.

use std::{io, path::Path};

use serde::Serialize;
use serde_json::{
    Map, Value,
    ser::{Formatter, PrettyFormatter, Serializer},
};

use crate::{Error, Event, Result, atomic, folder::TRAINER_STATE};

/// How far a run has come. Field names are those of transformers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainerState {
    /// Optimizer steps done.
    pub global_step: u64,
    /// Optimizer steps of the whole run.
    pub max_steps: u64,
    /// Passes over the data done, with the fraction of the current one.
    pub epoch: f64,
    /// Passes over the data of the whole run.
    pub num_train_epochs: u64,
    /// Steps between entries of `log_history`.
    pub logging_steps: u64,
    /// Steps between evaluations; 0 without evaluation data.
    pub eval_steps: u64,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Pairs a micro-batch in transformers' sense: `batch_size`.
    pub train_batch_size: u64,
    /// Tokens fed to the policy so far.
    pub num_input_tokens_seen: u64,
    /// Floating-point operations so far, as transformers estimates them.
    pub total_flos: f64,
    /// The best value so far of the metric that chooses a checkpoint.
    pub best_metric: Option<f64>,
    /// The step of that value.
    pub best_global_step: Option<u64>,
    /// The checkpoint of that step, where one was written.
    pub best_model_checkpoint: Option<String>,
    /// Whether the run is over.
    pub is_finished: bool,
    /// The guard that ended the run before its last step, in words.
    pub stopped_by: Option<String>,
    /// Every logged step and evaluation.
    pub log_history: Vec<Event>,
}

impl TrainerState {
    /// Writes `trainer_state.json` into a checkpoint or a run folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Json`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(TRAINER_STATE);
        let text = self.text().map_err(|source| Error::Json { path: path.clone(), source })?;
        atomic::write(&path, &text)
    }

    fn text(&self) -> serde_json::Result<Vec<u8>> {
        let mut value = Value::Object(self.fields());
        value.sort_all_objects();
        let mut text = Vec::new();
        value.serialize(&mut Serializer::with_formatter(&mut text, PythonFormatter::default()))?;
        text.push(b'\n');
        Ok(text)
    }

    fn fields(&self) -> Map<String, Value> {
        let control = serde_json::json!({
            "args": {
                "should_epoch_stop": false,
                "should_evaluate": false,
                "should_log": false,
                "should_save": true,
                "should_training_stop": self.is_finished,
            },
            "attributes": {},
        });
        let mut callbacks = serde_json::json!({ "TrainerControl": control });
        if let Some(told) = &self.stopped_by {
            callbacks["StopWhen"] =
                serde_json::json!({ "args": {}, "attributes": { "stopped_by": told } });
        }
        let history = self.log_history.iter().map(|event| Value::Object(event.to_json()));
        let fields: [(&str, Value); 20] = [
            ("best_global_step", self.best_global_step.into()),
            ("best_metric", self.best_metric.into()),
            ("best_model_checkpoint", self.best_model_checkpoint.clone().into()),
            ("epoch", self.epoch.into()),
            ("eval_steps", self.eval_steps.into()),
            ("global_step", self.global_step.into()),
            ("is_hyper_param_search", false.into()),
            ("is_local_process_zero", true.into()),
            ("is_world_process_zero", true.into()),
            ("log_history", history.collect()),
            ("logging_steps", self.logging_steps.into()),
            ("max_steps", self.max_steps.into()),
            ("num_input_tokens_seen", self.num_input_tokens_seen.into()),
            ("num_train_epochs", self.num_train_epochs.into()),
            ("save_steps", self.save_steps.into()),
            ("stateful_callbacks", callbacks),
            ("total_flos", self.total_flos.into()),
            ("train_batch_size", self.train_batch_size.into()),
            ("trial_name", Value::Null),
            ("trial_params", Value::Null),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Indents by 2 and writes floating-point numbers as Python's `repr`.
#[derive(Default)]
struct PythonFormatter {
    pretty: PrettyFormatter<'static>,
}

impl Formatter for PythonFormatter {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(python_repr(value).as_bytes())
    }
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_array(writer)
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_array(writer)
    }
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.pretty.begin_array_value(writer, first)
    }
    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_array_value(writer)
    }
    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object(writer)
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object(writer)
    }
    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.pretty.begin_object_key(writer, first)
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object_value(writer)
    }
    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object_value(writer)
    }
}

/// The shortest text that reads back to `value`, in Python's spelling.
///
/// Plain from 1e-4 up to 1e16, else with an exponent of at least two digits.
fn python_repr(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use fs_err as fs;
    use snapbox::assert_data_eq;

    use super::*;

    #[test]
    fn the_file_is_the_one_that_transformers_writes() {
        let state = TrainerState {
            global_step: 20,
            max_steps: 60,
            epoch: 1.0 / 3.0,
            num_train_epochs: 1,
            logging_steps: 10,
            eval_steps: 20,
            save_steps: 20,
            train_batch_size: 4,
            num_input_tokens_seen: 12345,
            total_flos: 1.5e17,
            best_metric: Some(0.1),
            best_global_step: Some(20),
            best_model_checkpoint: Some("runs/a/checkpoint-20".into()),
            is_finished: false,
            stopped_by: None,
            log_history: vec![
                Event::new(10)
                    .with("loss", std::f64::consts::LN_2)
                    .with("learning_rate", 1e-6)
                    .with("grad_norm", 12.0)
                    .with("rewards/margins", -0.000_25)
                    .with("epoch", 1.0 / 6.0)
                    .with("num_tokens", 4000.0),
                Event::new(20).with("eval_loss", 0.1).with("epoch", 1.0 / 3.0),
            ],
        };
        let golden = fs::read_to_string(testkit::golden("train/trainer_state.json")).unwrap();
        assert_data_eq!(String::from_utf8(state.text().unwrap()).unwrap(), golden);
    }

    #[test]
    fn numbers_are_spelt_as_python_spells_them() {
        let spelt = [
            (1e-4, "0.0001"),
            (9.999e-5, "9.999e-05"),
            (1e-6, "1e-06"),
            (-2.5e-10, "-2.5e-10"),
            (1e-100, "1e-100"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e17, "1.5e+17"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (0.1 + 0.2, "0.30000000000000004"),
        ];
        for (value, text) in spelt {
            assert_eq!(python_repr(value), text);
        }
    }
}
