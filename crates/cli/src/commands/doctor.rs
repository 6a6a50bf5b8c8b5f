//! `trueup doctor`: what this machine offers.

use std::{fmt::Write as _, path::Path};

use fs_err as fs;
use kernels::{Device, Precision};

use super::{cache::folder_bytes, size};
use crate::{
    environment,
    failure::Failure,
    machine::{self, Memory},
    terminal::Terminal,
};

/// Prints what a run on this machine would use.
pub(super) fn run(terminal: &Terminal) -> Result<(), Failure> {
    let mut text = format!("trueup      {}\n", env!("CARGO_PKG_VERSION"));
    processor(&mut text);
    memory(&mut text);
    caches(&mut text)?;
    terminal.data(&text)
}

fn processor(text: &mut String) {
    let device = Device::cpu();
    let precision = match device.preferred_precision() {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    };
    let every = Device::every_cpu();
    let paths: Vec<&str> = every.iter().map(Device::kernel_path).collect();
    let _ = writeln!(text, "processor   {}", machine::processor());
    let _ = writeln!(text, "threads     {}", machine::threads());
    let _ = writeln!(text, "kernels     {} (of {})", device.kernel_path(), paths.join(", "));
    let _ = writeln!(text, "precision   {precision} for `precision: auto`");
    let _ = writeln!(text, "cuda        not supported by this version");
}

fn memory(text: &mut String) {
    let memory = Memory::detect();
    let told = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".into(), size);
    let (total, available) = (told(memory.total), told(memory.available));
    let _ = writeln!(text, "memory      {total}, {available} available");
    let limit = memory.group.map_or_else(
        || "none".into(),
        |group| format!("{}, {} in use", size(group.limit), size(group.used)),
    );
    let _ = writeln!(text, "limit       {limit}");
}

fn caches(text: &mut String) -> Result<(), Failure> {
    let caches = environment::caches()?;
    let own = size(folder_bytes(&caches.own)?);
    let _ = writeln!(text, "cache       {own} in {}", caches.own.display());
    let _ = writeln!(text, "models      in {}", caches.hub.display());
    let models = models(&caches.hub)?;
    if models.is_empty() {
        let _ = writeln!(text, "            none yet");
    }
    for (name, bytes) in models {
        let _ = writeln!(text, "            {name} ({})", size(bytes));
    }
    Ok(())
}

/// The ids and sizes of the models in a Hugging Face cache, in the order of their names.
fn models(hub: &Path) -> Result<Vec<(String, u64)>, Failure> {
    let mut found = Vec::new();
    if !hub.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(hub)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(id) = name.strip_prefix("models--") {
            found.push((id.replacen("--", "/", 1), folder_bytes(&entry.path())?));
        }
    }
    found.sort();
    Ok(found)
}
