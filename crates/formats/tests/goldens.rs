//! Files by the programs that define their formats, against what those programs read back.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use formats::gguf::{Array, Gguf, TokenType, Value, quantize, write_with};
use formats::peft::{self, Targets};
use formats::safetensors::{Checkpoint, TensorData, write};
use formats::{Dtype, Error, Layout, TensorView};
use testkit::tolerance;

/// A golden file as JSON.
fn golden(name: &str) -> serde_json::Value {
    let path = testkit::golden("formats").join(name);
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

/// The bytes that hexadecimal digits stand for.
fn bytes_of(hex: &serde_json::Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn dtype_of(name: &serde_json::Value) -> Dtype {
    let name = name.as_str().unwrap();
    let name = match name {
        "float32" => "F32",
        "float16" => "F16",
        "bfloat16" => "BF16",
        other => other,
    };
    Dtype::ALL.into_iter().find(|dtype| dtype.name() == name).expect(name)
}

fn shape_of(shape: &serde_json::Value) -> Vec<usize> {
    serde_json::from_value(shape.clone()).unwrap()
}

/// Compares values to the bit, row by row, and says where they differ.
fn check_values(name: &str, view: &TensorView<'_>, golden: &[u8]) {
    let wanted: Vec<u32> =
        golden.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    assert_eq!(view.value_count(), wanted.len(), "{name}");
    let mut row = vec![0.0; view.cols()];
    for index in 0..view.rows() {
        view.read_row(index, &mut row).unwrap();
        for (col, value) in row.iter().enumerate() {
            let wanted = wanted[index * view.cols() + col];
            let distance = f32::from_bits(wanted) - value;
            assert_eq!(value.to_bits(), wanted, "{name} row {index} col {col}: off by {distance}");
        }
    }
}

#[test]
fn blocks_are_widened_to_the_bit() {
    let golden = golden("quants.json");
    let mut seen = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let dtype = dtype_of(&case["dtype"]);
        let shape = shape_of(&serde_json::json!([case["rows"], case["cols"]]));
        let stored = bytes_of(&case["bytes"]);
        let view = TensorView::new(name, dtype, shape, &stored).unwrap();
        check_values(name, &view, &bytes_of(&case["values"]));
        seen.push(dtype);
    }
    for dtype in Dtype::ALL {
        assert!(seen.contains(&dtype), "no golden for {dtype}");
    }
}

/// Number `i` of a row from its code and the row's words of scales, as the table of
/// `gguf::codes` has them.
fn value_of(dtype: Dtype, i: usize, code: u8, scales: &[u32]) -> f32 {
    let half =
        |at: usize| half::f16::from_bits((scales[at / 2] >> (16 * (at % 2))) as u16).to_f32();
    let byte = |at: usize| (scales[at / 4] >> (8 * (at % 4))) as u8;
    let (block, start, q) = (i / 32, i / 256 * 5, f32::from(code));
    match dtype {
        Dtype::Q4_0 => half(block) * (q - 8.0),
        Dtype::Q5_0 => half(block) * (q - 16.0),
        Dtype::Q8_0 => half(block) * f32::from(code.cast_signed()),
        Dtype::Q4_1 | Dtype::Q5_1 => half(2 * block) * q + half(2 * block + 1),
        Dtype::Q4K | Dtype::Q5K => {
            let group = 4 * (start + 1) + 2 * (block % 8);
            let (scale, min) = (f32::from(byte(group)), f32::from(byte(group + 1)));
            half(2 * start) * scale * q - half(2 * start + 1) * min
        }
        Dtype::Q6K => {
            let scale = byte(4 * (start + 1) + i % 256 / 16).cast_signed();
            half(2 * start) * f32::from(scale) * (q - 32.0)
        }
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => panic!("{dtype} has no codes"),
    }
}

#[test]
fn codes_and_scales_hold_every_number() {
    let golden = golden("quants.json");
    for case in golden["cases"].as_array().unwrap() {
        let dtype = dtype_of(&case["dtype"]);
        let shape = shape_of(&serde_json::json!([case["rows"], case["cols"]]));
        let stored = bytes_of(&case["bytes"]);
        let view = TensorView::new("a", dtype, shape, &stored).unwrap();
        let mut codes = vec![0; view.cols()];
        let Some(words) = view.scale_words() else {
            assert!(!dtype.is_quantized());
            assert!(matches!(
                view.read_codes(0, &mut codes, &mut []),
                Err(Error::WrongDtype { .. })
            ));
            continue;
        };
        let mut scales = vec![7; words];
        let mut wanted = vec![0.0; view.cols()];
        for row in 0..view.rows() {
            view.read_row(row, &mut wanted).unwrap();
            view.read_codes(row, &mut codes, &mut scales).unwrap();
            for (i, (code, wanted)) in codes.iter().zip(&wanted).enumerate() {
                let value = value_of(dtype, i, *code, &scales);
                assert_eq!(value.to_bits(), wanted.to_bits(), "{dtype} row {row} number {i}");
            }
        }
        let after = view.rows();
        let missing = view.read_codes(after, &mut codes, &mut scales);
        assert!(matches!(missing, Err(Error::RowOutOfRange { .. })));
        let short = view.read_codes(0, &mut codes[1..], &mut scales);
        assert!(matches!(short, Err(Error::RowLength { .. })));
        let short = view.read_codes(0, &mut codes, &mut scales[1..]);
        assert!(matches!(short, Err(Error::RowLength { .. })));
    }
}

#[test]
fn numbers_are_packed_as_the_reference_packs_them() {
    let golden = golden("quantized.json");
    let mut seen = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let dtype = dtype_of(&case["dtype"]);
        seen.push(dtype);
        let values: Vec<f32> = bytes_of(&case["values"])
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let mut packed = Vec::new();
        quantize(&values, dtype, &mut packed);
        assert_eq!(packed.len(), dtype.row_bytes(values.len()).unwrap(), "{dtype}");
        if let Some(wanted) = case.get("bytes") {
            let wanted = bytes_of(wanted);
            let blocks = packed.chunks(dtype.block_bytes()).zip(wanted.chunks(dtype.block_bytes()));
            for (index, (packed, wanted)) in blocks.enumerate() {
                assert_eq!(packed, wanted, "{dtype} block {index}");
            }
        } else {
            let view = TensorView::new("a", dtype, vec![values.len()], &packed).unwrap();
            let back = view.to_f32().unwrap();
            let off = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
            let error: f64 = values.iter().zip(&back).map(off).sum();
            let share = error / case["least_error"].as_f64().unwrap();
            assert!(share < tolerance::K_BLOCK_ERROR, "{dtype}: {share} times the least error");
        }
    }
    for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
        assert!(seen.contains(&dtype), "no golden for {dtype}");
    }
}

#[test]
fn packed_numbers_are_packed_again_alike() {
    for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
        // Nothing, and one number in a block of zeros.
        for values in [vec![0.0; 512], (0..512).map(|i| f32::from(u8::from(i == 300))).collect()] {
            let mut packed = Vec::new();
            quantize(&values, dtype, &mut packed);
            let view = TensorView::new("a", dtype, vec![512], &packed).unwrap();
            let back = view.to_f32().unwrap();
            for (value, back) in values.iter().zip(&back) {
                let off = f64::from((value - back).abs());
                assert!(off < tolerance::F16_SCALE, "{dtype}: {back} for {value}");
            }
            let mut again = Vec::new();
            quantize(&back, dtype, &mut again);
            let view = TensorView::new("a", dtype, vec![512], &again).unwrap();
            let same = view.to_f32().unwrap();
            assert!(
                same.iter()
                    .zip(&back)
                    .all(|(a, b)| f64::from((a - b).abs()) < tolerance::F16_SCALE)
            );
        }
    }
}

#[test]
fn a_written_gguf_file_holds_what_was_read() {
    let read = Gguf::open(testkit::golden("formats/sample.gguf")).unwrap();
    let metadata: Vec<_> = read
        .metadata()
        .iter()
        .filter(|(key, _)| *key != "general.alignment")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let views: Vec<_> = read.names().map(|name| read.tensor(name).unwrap()).collect();
    let layouts: Vec<_> = views
        .iter()
        .map(|view| Layout {
            name: view.name.to_owned(),
            dtype: view.dtype,
            shape: view.shape.clone(),
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.gguf");
    let bytes = |index: usize| Ok::<_, Error>(views[index].bytes.into());
    write_with(&path, &metadata, &layouts, bytes).unwrap();
    let again = Gguf::open(&path).unwrap();
    assert_eq!((again.version(), again.len()), (3, read.len()));
    assert_eq!(
        again.metadata().iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>(),
        metadata
    );
    for view in &views {
        assert_eq!(again.tensor(view.name).unwrap(), *view);
    }
    // The same bytes each time, and the tokenizer's tables there and back.
    let second = folder.path().join("second.gguf");
    write_with(&second, &metadata, &layouts, bytes).unwrap();
    assert!(fs_err::read(&path).unwrap() == fs_err::read(&second).unwrap());
    let table = Gguf::open(testkit::golden("formats/sample.gguf")).unwrap().tokenizer().unwrap();
    let third = folder.path().join("third.gguf");
    write_with(&third, &table.metadata(), &[], bytes).unwrap();
    assert_eq!(Gguf::open(&third).unwrap().tokenizer().unwrap(), table);
}

#[test]
fn what_cannot_be_written_leaves_no_gguf_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let layout = |name: &str, shape: &[usize]| Layout {
        name: name.to_owned(),
        dtype: Dtype::Q8_0,
        shape: shape.to_vec(),
    };
    let cause = |metadata: &[&str], layouts: &[Layout], length: usize| {
        let metadata: Vec<_> =
            metadata.iter().map(|key| ((*key).to_owned(), Value::Bool(true))).collect();
        let done =
            write_with(&path, &metadata, layouts, |_| Ok::<_, Error>(vec![0; length].into()));
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
        match done.unwrap_err() {
            Error::Write { source, .. } => *source,
            other => panic!("{other}"),
        }
    };
    let one = layout("a", &[32]);
    assert!(matches!(cause(&["a", "a"], &[], 0), Error::Duplicate { .. }));
    assert!(matches!(cause(&[], &[one.clone(), one.clone()], 34), Error::Duplicate { .. }));
    assert!(matches!(cause(&[], &[layout("a", &[2, 33])], 0), Error::PartialBlock { .. }));
    assert!(matches!(cause(&[], &[layout("a", &[1, 1, 1, 1, 32])], 34), Error::Dimensions { .. }));
    assert!(matches!(cause(&[], &[one], 33), Error::TensorSize { wanted: 34, found: 33, .. }));
}

#[test]
fn tensors_of_a_gguf_file_are_read() {
    let gguf = Gguf::open(testkit::golden("formats/sample.gguf")).unwrap();
    let golden = golden("sample.json");
    let tensors = golden["tensors"].as_object().unwrap();
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(gguf.names().collect::<Vec<_>>(), names);
    for (name, wanted) in tensors {
        let view = gguf.tensor(name).unwrap();
        assert_eq!(view.dtype, dtype_of(&wanted["dtype"]), "{name}");
        assert_eq!(view.shape, shape_of(&wanted["shape"]), "{name}");
        check_values(name, &view, &bytes_of(&wanted["values"]));
    }
}

#[test]
fn metadata_of_every_type_is_read() {
    let gguf = Gguf::open(testkit::golden("formats/sample.gguf")).unwrap();
    let wanted = [
        ("u8", Value::U8(200)),
        ("i8", Value::I8(-100)),
        ("u16", Value::U16(60000)),
        ("i16", Value::I16(-30000)),
        ("u32", Value::U32(4_000_000_000)),
        ("i32", Value::I32(-2_000_000_000)),
        ("u64", Value::U64((1 << 63) + 5)),
        ("i64", Value::I64(-(1 << 62))),
        ("f32", Value::F32(0.1)),
        ("f64", Value::F64(0.1)),
        ("yes", Value::Bool(true)),
        ("text", Value::String("Ünïcödé".into())),
        ("integers", Value::Array(Array::I32(vec![1, -2, 3]))),
        ("numbers", Value::Array(Array::F32(vec![0.5, -0.25]))),
        ("truths", Value::Array(Array::Bool(vec![true, false, true]))),
        ("bytes", Value::Array(Array::U8(vec![0, 255, 7]))),
        (
            "nested",
            Value::Array(Array::Array(vec![Array::I32(vec![1, 2, 3]), Array::I32(vec![4])])),
        ),
    ];
    for (key, value) in wanted {
        assert_eq!(gguf.metadata().get(&format!("test.{key}")), Some(&value), "{key}");
    }
    assert_eq!(gguf.get_u32("test.u8").unwrap(), 200);
    assert_eq!(gguf.get_usize("test.u64").unwrap(), (1 << 63) + 5);
    assert_eq!(gguf.get::<Vec<i64>>("test.integers").unwrap(), [1, -2, 3]);
    assert_eq!(gguf.get_f32("llama.rope.freq_base").unwrap().to_bits(), 10000f32.to_bits());
    assert!(gguf.get_bool("test.yes").unwrap());
    assert_eq!(gguf.find_value::<u32>("test.absent").unwrap(), None);
}

#[test]
fn metadata_of_another_kind_is_named() {
    let gguf = Gguf::open(testkit::golden("formats/sample.gguf")).unwrap();
    let message = |error: Error| std::error::Error::source(&error).unwrap().to_string();
    let missing = gguf.get_u32("llama.block_cuont").unwrap_err();
    assert_eq!(missing.hint().unwrap(), "the nearest names are `llama.block_count`");
    assert_eq!(message(missing), "there is no metadata value `llama.block_cuont`");
    assert_eq!(
        message(gguf.get_u32("test.i8").unwrap_err()),
        "metadata value `test.i8` is -100, not a whole number from 0 to 4294967295"
    );
    assert_eq!(
        message(gguf.get_f32("test.nested").unwrap_err()),
        "metadata value `test.nested` is an array of arrays, not a floating-point number"
    );
    assert!(gguf.find_value::<bool>("test.u8").is_err());
}

#[test]
fn the_tokenizer_of_a_gguf_file_is_read() {
    let gguf = Gguf::open(testkit::golden("formats/sample.gguf")).unwrap();
    let tokenizer = gguf.tokenizer().unwrap();
    assert_eq!(tokenizer.model, "gpt2");
    assert_eq!(tokenizer.pre.as_deref(), Some("smollm"));
    assert_eq!(tokenizer.tokens, ["<s>", "</s>", "a", "b", "ab", " "]);
    assert_eq!(tokenizer.types[1..3], [TokenType::Control, TokenType::Normal]);
    assert_eq!(tokenizer.scores, [0.0, 0.0, -1.0, -2.0, -3.0, -4.0]);
    let merges: Vec<_> = tokenizer.merges.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(merges, [("a", "b"), ("ab", "c"), (" ", "x")]);
    assert_eq!((tokenizer.bos, tokenizer.eos, tokenizer.unknown), (Some(0), Some(1), None));
    assert_eq!((tokenizer.add_bos, tokenizer.add_eos), (Some(true), None));
    assert_eq!(tokenizer.chat_template.as_deref(), Some("{{ messages }}"));
    assert_eq!(tokenizer.named_templates["tool_use"], "{{ tools }}");
}

#[test]
fn tensors_of_a_safetensors_file_are_read() {
    let checkpoint = Checkpoint::open(testkit::golden("formats/sample.safetensors")).unwrap();
    assert_eq!(checkpoint.metadata()["format"], "pt");
    for (name, wanted) in golden("safetensors.json")["tensors"].as_object().unwrap() {
        if name == "ids" {
            let error = checkpoint.tensor(name).unwrap_err();
            let Error::Read { source, .. } = error else { panic!("{error}") };
            assert!(matches!(*source, Error::UnknownDtype { ref dtype, .. } if dtype == "I64"));
            assert_eq!(checkpoint.shape(name).unwrap(), [3]);
            continue;
        }
        let view = checkpoint.tensor(name).unwrap();
        assert_eq!(view.dtype, dtype_of(&wanted["dtype"]), "{name}");
        assert_eq!(view.shape, shape_of(&wanted["shape"]), "{name}");
        check_values(name, &view, &bytes_of(&wanted["values"]));
    }
}

#[test]
fn an_adapter_of_peft_is_read() {
    let adapter = peft::read(testkit::golden("formats/adapter")).unwrap();
    assert!(adapter.unknown_fields.is_empty(), "{:?}", adapter.unknown_fields);
    let targets = ["q_proj", "up_proj", "v_proj"].map(str::to_owned).to_vec();
    assert_eq!(adapter.config.target_modules, Some(Targets::List(targets)));
    assert_eq!(adapter.config.peft_version.as_deref(), Some("0.21.2"));
    let modules = adapter.modules().unwrap();
    let golden = golden("adapter.json");
    let wanted = golden["modules"].as_object().unwrap();
    let mut names: Vec<&str> = wanted.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert!(names.iter().eq(modules.keys()));
    for (name, pair) in modules {
        assert_eq!(pair.rank as u64, wanted[name]["rank"].as_u64().unwrap(), "{name}");
        let scale = wanted[name]["scale"].as_f64().unwrap();
        assert_eq!(pair.scale.to_bits(), scale.to_bits(), "{name}");
        let delta: Vec<f64> = serde_json::from_value(wanted[name]["delta"].clone()).unwrap();
        assert_eq!(delta.len(), pair.outputs * pair.inputs, "{name}");
        for (at, wanted) in delta.into_iter().enumerate() {
            let (row, col) = (at / pair.inputs, at % pair.inputs);
            let product: f64 = (0..pair.rank)
                .map(|k| {
                    f64::from(pair.b[row * pair.rank + k])
                        * f64::from(pair.a[k * pair.inputs + col])
                })
                .sum();
            let difference = (pair.scale * product - wanted).abs();
            assert!(difference < testkit::tolerance::SHORT_F32_SUM, "{name} {at}: {difference}");
        }
    }
}

#[test]
fn an_adapter_of_peft_is_written_as_it_was() {
    let golden = testkit::golden("formats/adapter");
    let adapter = peft::read(&golden).unwrap();
    let folder = tempfile::tempdir().unwrap();
    peft::write(folder.path(), &adapter).unwrap();
    let file = |folder: &std::path::Path, name| fs_err::read(folder.join(name)).unwrap();
    assert_eq!(file(folder.path(), peft::MODEL_FILE), file(&golden, peft::MODEL_FILE));
    // Every field that is written has PEFT's value, and the text has PEFT's form.
    let written = String::from_utf8(file(folder.path(), peft::CONFIG_FILE)).unwrap();
    let stored = String::from_utf8(file(&golden, peft::CONFIG_FILE)).unwrap();
    let comma = |line: &str| line.trim_end_matches(',').to_owned();
    for line in written.lines().map(comma) {
        assert!(stored.lines().map(comma).any(|stored| stored == line), "{line}");
    }
    assert_eq!(peft::read(folder.path()).unwrap(), adapter);
}

#[test]
fn the_same_bytes_as_the_safetensors_library() {
    use safetensors::tensor::{Dtype as Theirs, TensorView as TheirView, serialize};
    let numbers: Vec<u8> = (0..48).collect();
    let shapes: [(&str, Dtype, Theirs, &[usize], usize); 6] = [
        ("z.narrow", Dtype::Bf16, Theirs::BF16, &[2, 3], 12),
        ("b.wide", Dtype::F32, Theirs::F32, &[4, 3], 48),
        ("a.half", Dtype::F16, Theirs::F16, &[5], 10),
        ("a.wide", Dtype::F32, Theirs::F32, &[], 4),
        ("empty", Dtype::F32, Theirs::F32, &[3, 0], 0),
        ("quoted \"name\"", Dtype::F16, Theirs::F16, &[1, 1, 2], 4),
    ];
    let ours: Vec<_> = shapes
        .iter()
        .map(|&(name, dtype, _, shape, size)| TensorData {
            name,
            dtype,
            shape,
            bytes: numbers[..size].into(),
        })
        .collect();
    let theirs = shapes.iter().map(|&(name, _, dtype, shape, size)| {
        (name, TheirView::new(dtype, shape.to_vec(), &numbers[..size]).unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write(&path, &ours, &metadata).unwrap();
    let library = serialize(theirs, Some(metadata.into_iter().collect())).unwrap();
    assert_eq!(fs_err::read(&path).unwrap(), library);
    // Nothing is left beside the file.
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    let checkpoint = Checkpoint::open(&path).unwrap();
    for (name, dtype, _, shape, size) in shapes {
        let view = checkpoint.tensor(name).unwrap();
        assert_eq!((view.dtype, &*view.shape, view.bytes), (dtype, shape, &numbers[..size]));
    }
}
