//! Checkpoints: a run whose files are replaced one at a time, and what resuming makes of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data::template::Moment;
use run::{RunFolder, checkpoint::state_folder};
use train::align::{Prepared, Setting, Start};
use train::recipe::{self, Recipe};
use train::resume::{self, Opening, Resume};
use train::run_log::read_checkpoint;
use train::trainer::Trainer;
use train::{Progress, Watch};

/// The files that an input can stand for; its first byte chooses.
const FILES: [&str; 7] = [
    "checkpoint-2/trueup/manifest.json",
    "checkpoint-2/trueup/optimizer.safetensors",
    "checkpoint-2/adapter_model.safetensors",
    "events.jsonl",
    "timings.jsonl",
    "recipe.yaml",
    "checkpoint-2/trainer_state.json",
];

/// The step of the checkpoint.
const STEP: u64 = 2;

/// A run of two steps that is resumed again and again.
pub struct Run {
    home: PathBuf,
    recipe: Recipe,
    trainer: Trainer,
    /// What the run wrote.
    files: BTreeMap<String, Vec<u8>>,
}

/// Says nothing and never stops a run.
struct Silent;

impl Watch for Silent {
    fn note(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn interrupted(&self) -> bool {
        false
    }
}

impl Run {
    /// Trains two steps on a tiny model.
    pub fn new() -> Self {
        let home = crate::place("checkpoint");
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).expect("the folder of temporary files can be written");
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../goldens/trl");
        let text = format!(
            "model: {{path: \"{0}/chat\"}}\n\
             dataset: {{path: \"{0}/pairs.jsonl\"}}\n\
             alignment: {{output_dir: \"{1}/run\", save_steps: 2, batch_size: 1, lora_r: 1,\n\
             target_modules: [q_proj], gradient_accumulation_steps: 1, max_steps: 3}}\n",
            goldens.display(),
            home.display()
        );
        std::fs::write(home.join("recipe.yaml"), text).expect("it can be written");
        let recipe = recipe::read(&home.join("recipe.yaml"), &[], "").expect("it is sound").recipe;
        let setting = Setting {
            device: kernels::Device::cpu(),
            model: goldens.join("chat"),
            tokenizer: None,
            caches: None,
            memory: u64::MAX,
            today: Moment::from_unix_seconds(0).expect("a day"),
        };
        let prepared = Prepared::new(recipe.clone(), setting).expect("model and data are sound");
        let root = home.join("run");
        let folder = RunFolder::create(&root).expect("the folder is new");
        prepared.run(folder, &Start::Fresh, &mut Silent).expect("it trains");
        let trainer = prepared.trainer(&mut Silent).expect("it trains").expect("nobody stops it");
        let names = FILES.iter().chain(&["checkpoint-2/adapter_config.json"]);
        let read = |name: &&str| ((*name).to_owned(), std::fs::read(root.join(name)).expect(name));
        let files = names.map(read).collect();
        std::fs::remove_dir_all(&root).expect("it was made here");
        std::fs::create_dir_all(root.join("checkpoint-2/trueup")).expect("it can be made");
        Self { home, recipe, trainer, files }
    }

    /// Puts an input in the place of one of the files.
    ///
    /// A file that the checkpoint's list vouches for is listed anew, as a hostile author would.
    pub fn replace(&self, input: &[u8]) {
        let (choice, bytes) = input.split_first().unwrap_or((&0, &[]));
        let chosen = FILES[usize::from(*choice) % FILES.len()];
        let root = self.home.join("run");
        for (name, sound) in &self.files {
            let bytes = if name == chosen { bytes } else { sound };
            std::fs::write(root.join(name), bytes).expect("it can be written");
        }
        let is_listed = chosen.starts_with("checkpoint-2/") && chosen != FILES[0];
        if is_listed {
            let folder = RunFolder::open(&root).expect("nobody else has it");
            let written = folder.write_checkpoint::<run::Error>(STEP, |at| {
                for (name, sound) in &self.files {
                    let Some(inner) = name.strip_prefix("checkpoint-2/") else { continue };
                    if name != FILES[0] {
                        let bytes = if name == chosen { bytes } else { sound };
                        std::fs::write(at.join(inner), bytes)?;
                    }
                }
                assert!(state_folder(at).is_dir());
                Ok(())
            });
            written.expect("it can be written");
        }
    }

    /// Resumes as far as the next step: checkpoint, recipe, weights, moments, events, timings.
    pub fn resume(&mut self) {
        let mut recipe = self.recipe.clone();
        let (folder, start) = match resume::open(&mut recipe, &Resume::Auto) {
            Ok(Opening::Run { folder, start, .. }) => (folder, start),
            Ok(Opening::Finished { .. }) => unreachable!("the run has no end"),
            Err(error) => {
                let _ = (error.to_string(), error.hint());
                return;
            }
        };
        if let Start::Checkpoint(checkpoint) = &start
            && let Err(error) = read_checkpoint(checkpoint, &mut self.trainer)
        {
            let _ = (error.to_string(), error.hint());
        }
        let _ = run::Events::resume(&folder.events_path(), STEP)
            .map(|(_, kept)| train::history::History::new(kept).tokens());
        let _ = run::Timings::open(&folder.timings_path());
    }
}

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}
