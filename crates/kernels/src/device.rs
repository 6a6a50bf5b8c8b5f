//! Where operations run, and in what arithmetic.

use crate::cpu::{Cpu, Isa};

/// A place where tensors live and operations run; cheap to clone.
#[derive(Clone, Debug)]
pub enum Device {
    /// This machine's processors, through rayon's current thread pool.
    Cpu(Cpu),
}

impl Device {
    /// The processors with the best instruction set that they have.
    pub fn cpu() -> Self {
        Self::Cpu(Cpu::detect())
    }

    /// The processors held to one instruction set, or `None` where they lack it; for tests.
    pub fn cpu_with(isa: Isa) -> Option<Self> {
        Cpu::with(isa).map(Self::Cpu)
    }

    /// One device for each instruction set that this machine has, best first.
    pub fn every_cpu() -> Vec<Self> {
        Isa::ALL.into_iter().filter_map(Self::cpu_with).collect()
    }

    /// The faster precision here: `Bf16` where the processor multiplies bf16, else `F32`.
    pub fn preferred_precision(&self) -> Precision {
        match self {
            Self::Cpu(cpu) if cpu.isa() == Isa::Avx512Bf16 => Precision::Bf16,
            Self::Cpu(_) => Precision::F32,
        }
    }

    /// The name of the kernel path, as it enters keys of cached results: results of two paths
    /// may differ in their last bits.
    pub fn kernel_path(&self) -> &'static str {
        match self {
            Self::Cpu(cpu) => cpu.isa().name(),
        }
    }
}

/// The arithmetic of matrix products; all else is f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 operands and sums.
    F32,
    /// Operands rounded to bf16, f32 sums. Processors without the instruction round at the same
    /// points and multiply in f32.
    Bf16,
}
