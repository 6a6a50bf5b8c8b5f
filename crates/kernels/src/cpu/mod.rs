//! What the fast versions share: instruction sets, aligned memory, packing, the matrix product.

pub(crate) mod arena;
pub(crate) mod exp;
pub(crate) mod gemm;
pub(crate) mod lanes;
pub(crate) mod pack;
pub(crate) mod round;
pub(crate) mod tanh;
pub(crate) mod team;
pub(crate) mod tiles;
pub(crate) mod turn;
pub(crate) mod unpack;
pub(crate) mod words;

pub use team::together;

/// A set of vector instructions that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// 512-bit vectors with products of bf16 pairs (Zen 4, Cooper Lake, Sapphire Rapids and later).
    Avx512Bf16,
    /// 512-bit vectors of f32.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// Plain loops; any machine.
    Portable,
}

impl Isa {
    /// All sets, best first.
    pub const ALL: [Self; 4] = [Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Portable];

    /// A short lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Whether this machine has the set.
    #[cfg(target_arch = "x86_64")]
    fn present(self) -> bool {
        let avx2 = || {
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
        };
        let avx512 = || {
            avx2()
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        };
        match self {
            Self::Avx512Bf16 => avx512() && is_x86_feature_detected!("avx512bf16"),
            Self::Avx512 => avx512(),
            Self::Avx2 => avx2(),
            Self::Portable => true,
        }
    }

    /// Whether this machine has the set.
    #[cfg(not(target_arch = "x86_64"))]
    fn present(self) -> bool {
        self == Self::Portable
    }
}

/// This machine's processors with the instruction set in use, which is known to be present.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    // Private: a value of this type is the proof that the set is present.
    isa: Isa,
}

impl Cpu {
    /// The best instruction set there is.
    pub fn detect() -> Self {
        let isa = Isa::ALL.into_iter().find(|isa| isa.present()).unwrap_or(Isa::Portable);
        Self { isa }
    }

    /// One instruction set, or `None` where the machine lacks it.
    pub fn with(isa: Isa) -> Option<Self> {
        isa.present().then_some(Self { isa })
    }

    /// The instruction set in use.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// Runs a plain loop compiled for this instruction set.
    ///
    /// No instruction is contracted, so the bits are the same under every set.
    pub(crate) fn run<L: Loop>(self, body: L) -> L::Output {
        #[cfg(target_arch = "x86_64")]
        match self.isa {
            // SAFETY: a `Cpu` exists only for sets that are present, and both contain these.
            Isa::Avx512Bf16 | Isa::Avx512 => return unsafe { run_avx512(body) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { run_avx2(body) },
            Isa::Portable => {}
        }
        body.run()
    }
}

/// A plain loop that the compiler turns into the vector instructions of each set.
///
/// Implement `run` with `#[inline(always)]`, else it is compiled for the oldest machine; functions
/// that it calls in its inner loop must be inlined too.
pub(crate) trait Loop {
    /// What the loop returns.
    type Output;
    /// Runs the loop.
    fn run(self) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn run_avx512<L: Loop>(body: L) -> L::Output {
    body.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2<L: Loop>(body: L) -> L::Output {
    body.run()
}
