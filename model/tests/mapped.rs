//! A model whose weights are read where their files lie, held against one that has copied them: the
//! same bits, for files of both types, offsets of any alignment, conversions on the way; and what is
//! refused. Not whether either is right: that is `golden.rs`'s.

#![allow(clippy::unwrap_used)]

use quipu_math::{Cpu, Device, Opaque, Queue, Reference};
use quipu_mesh::Mesh;
use quipu_model::tensor_file::{self, Stored, TensorFile};
use quipu_model::{Capacity, Chunk, Config, Model, Packed, Precision, Sizes, Wanted, huggingface};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const TOKENS: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];

/// Widths that are no multiples of a vector, so that q, k and v do not begin at panels either.
fn config(dtype: &str, biases: bool) -> Config {
    let mut config = Config::new(Sizes {
        vocab_size: 77,
        hidden_size: 60,
        intermediate_size: 101,
        layers: 2,
        heads: 6,
        kv_heads: 2,
        max_positions: 32,
        tied: false,
    })
    .unwrap();
    (config.attention_bias, config.mlp_bias) = (biases, biases);
    config.keep("dtype", json!(dtype)).unwrap();
    config
}

/// A checkpoint in several files.
fn written(dtype: &str, biases: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let device: Arc<dyn Device> = Arc::new(Cpu::new(1));
    let capacity = Capacity::frozen(&*device, 0);
    let mut model =
        Model::new(device.clone(), Mesh::one(), config(dtype, biases), capacity).unwrap();
    model.init(5).unwrap();
    for entry in model.table().entries().iter().filter(|e| e.shape.len() == 1) {
        // norms of one and biases of zero would hide a mistake
        let values: Vec<f32> = (0..entry.cols).map(|i| 0.5 + (i % 7) as f32 / 8.0).collect();
        device.write_floats(&model.weight(entry).unwrap(), &values).unwrap();
    }
    model.save_sharded(dir.path(), 60_000).unwrap();
    dir
}

/// Numbers of a model: logits of a prompt and of a token after it, and log-probabilities.
fn numbers(mut model: Model) -> Vec<f64> {
    let device = model.device().clone();
    let mut cache = model.cache(TOKENS.len() + 1).unwrap();
    let mut found = Vec::new();
    for tokens in [&TOKENS[..], &[7]] {
        let chunk = Chunk { tokens, cache: &mut cache };
        let logits = model.extend(&mut [chunk], Wanted::All).unwrap();
        found.extend(device.read_f64(&logits).unwrap());
    }
    let batch = Packed::of([&TOKENS[..]]);
    model.forward(0, &batch.view()).unwrap();
    found.extend(model.log_probs(0).unwrap());
    assert!(found.iter().all(|x| x.is_finite()));
    found
}

fn capacity(device: &dyn Device, precision: Option<Precision>) -> Capacity {
    let frozen = Capacity::frozen(device, TOKENS.len());
    let precision = precision.unwrap_or(frozen.precision);
    Capacity { generated: TOKENS.len(), precision, ..frozen }
}

/// The bytes of memory that weights take when they are mapped.
fn check(folder: &Path, device: Arc<dyn Device>, precision: Option<Precision>) -> usize {
    let copied = Model::open(folder, device.clone(), Mesh::one(), capacity(&*device, precision));
    let mapped = Model::map(folder, device.clone(), Mesh::one(), capacity(&*device, None)).unwrap();
    let copied = copied.unwrap();
    assert_eq!(mapped.precision(), copied.precision());
    let held = mapped.memory().iter().find(|kind| kind.kind == "weights").unwrap().bytes;
    let packed = mapped.memory().iter().find(|kind| kind.kind == "packed weights").unwrap().bytes;
    assert_eq!(packed, 0);
    for entry in copied.table().entries() {
        let read = |model: &Model| device.read_f64(&model.weight(entry).unwrap()).unwrap();
        assert!(read(&mapped) == read(&copied), "{}", entry.name);
    }
    assert!(numbers(mapped) == numbers(copied), "{} on {}", folder.display(), device.name());
    held
}

/// Writes a folder's files again with `shift` more bytes before the data of their tensors.
fn shifted(folder: &Path, shift: usize) {
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let bytes = std::fs::read(&path).unwrap();
            let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
            let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
            let header = [header, &vec![b' '; shift]].concat();
            let length = (header.len() as u64).to_le_bytes();
            std::fs::write(path, [&length[..], &header, data].concat()).unwrap();
        }
    }
}

#[test]
fn mapped_weights_have_the_bits_of_copies() {
    for threads in [1, 2] {
        let cpu = || -> Arc<dyn Device> { Arc::new(Cpu::new(threads)) };
        for biases in [false, true] {
            assert_eq!(check(written("bfloat16", biases).path(), cpu(), Some(Precision::MIXED)), 0);
            assert_eq!(check(written("float32", biases).path(), cpu(), None), 0);
        }
    }
}

#[test]
fn offsets_may_have_any_alignment() {
    let all = |config: Config| quipu_model::Table::new(&config).parameters();
    for shift in [1, 2, 4, 6] {
        let dir = written("bfloat16", false);
        shifted(dir.path(), shift);
        // what begins between two elements is copied, all else is read in place
        let held = if shift % 2 == 1 { 2 * all(config("bfloat16", false)) } else { 0 };
        assert_eq!(check(dir.path(), Arc::new(Cpu::new(1)), Some(Precision::MIXED)), held);
        let dir = written("float32", false);
        shifted(dir.path(), shift);
        let held = if shift % 4 == 0 { 0 } else { 4 * all(config("float32", false)) };
        assert_eq!(check(dir.path(), Arc::new(Cpu::new(1)), None), held);
    }
}

#[test]
fn other_types_and_other_devices_get_copies() {
    let halves = written("float16", false);
    assert!(check(halves.path(), Arc::new(Cpu::new(1)), None) > 0);
    let narrow = written("bfloat16", false);
    assert!(
        check(narrow.path(), Arc::new(Opaque::new(Arc::new(Cpu::new(1)))), Some(Precision::MIXED))
            > 0
    );
    assert!(check(narrow.path(), Arc::new(Reference::new()), None) > 0);
}

#[test]
fn a_mapped_weight_is_not_written() {
    let dir = written("bfloat16", false);
    let device: Arc<dyn Device> = Arc::new(Cpu::new(1));
    let capacity = Capacity::generating(&*device, 1);
    let mut model = Model::map(dir.path(), device.clone(), Mesh::one(), capacity).unwrap();
    let view = model.weight(&model.table().entries()[0]).unwrap();
    let refused = |error: String| assert!(error.contains("only read"), "{error}");
    let zeros = vec![0; view.bytes()];
    refused(device.write(Queue::MAIN, &view, &zeros).unwrap_err().to_string());
    let fill = quipu_math::op::Fill { out: view.clone(), value: 1.0 };
    refused(device.execute(fill).unwrap_err().to_string());
    refused(model.init(1).unwrap_err().to_string());
    refused(model.load(dir.path()).unwrap_err().to_string());
    assert!(model.weights().unwrap_err().to_string().contains("Model::open"));
    assert!(device.read_f64(&view).unwrap().iter().any(|x| *x != 0.0));
    let training = Capacity::training(&*device, 4);
    let error = Model::map(dir.path(), device, Mesh::one(), training).unwrap_err().to_string();
    assert!(error.contains("gradients"), "{error}");
}

#[test]
fn files_that_are_cut_or_changed_are_refused() {
    let map = |dir: &Path| {
        let device: Arc<dyn Device> = Arc::new(Cpu::new(1));
        let capacity = Capacity::generating(&*device, 1);
        Model::map(dir, device, Mesh::one(), capacity).map(|_| ()).map_err(|e| e.to_string())
    };
    let first = |dir: &Path| {
        let mut names = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        names.find(|path| path.to_string_lossy().contains("model-00001-of-")).unwrap()
    };
    let spoil = |change: &dyn Fn(&mut Vec<u8>)| {
        let dir = written("bfloat16", false);
        huggingface::seal(dir.path()).unwrap();
        map(dir.path()).unwrap();
        let mut bytes = std::fs::read(first(dir.path())).unwrap();
        change(&mut bytes);
        std::fs::write(first(dir.path()), bytes).unwrap();
        // what no manifest holds is refused by its own header where its length is another one
        let sealed = map(dir.path()).unwrap_err();
        std::fs::remove_file(dir.path().join("manifest.json")).unwrap();
        (sealed, map(dir.path()))
    };
    let (sealed, bare) = spoil(&|bytes| bytes.truncate(bytes.len() - 2));
    assert!(
        sealed.contains("model-00001") && bare.unwrap_err().contains("model-00001"),
        "{sealed}"
    );
    let (sealed, bare) = spoil(&|bytes| bytes.extend([0; 2]));
    assert!(
        sealed.contains("model-00001") && bare.unwrap_err().contains("model-00001"),
        "{sealed}"
    );
    let (sealed, _) = spoil(&|bytes| *bytes.last_mut().unwrap() ^= 1);
    assert!(sealed.contains("model-00001"), "{sealed}");
}

/// Every tensor of both folders, with its type and the file that it stands in.
fn same_tensors(a: &Path, b: &Path) {
    let all = |dir: &Path| {
        let mut found = Vec::new();
        for file in std::fs::read_dir(dir).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                let file = TensorFile::open(&path).unwrap();
                for t in file.tensors() {
                    let bytes = file.bytes(&t.name).unwrap().to_vec();
                    found.push((t, path.file_name().unwrap().to_owned(), bytes));
                }
            }
        }
        found.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        found
    };
    assert!(!all(a).is_empty() && all(a) == all(b));
}

#[test]
fn what_is_exported_has_the_bytes_that_came_in() {
    for dtype in ["bfloat16", "float32", "float16"] {
        let (from, to) = (written(dtype, true), tempfile::tempdir().unwrap());
        shifted(from.path(), 3);
        huggingface::copy(from.path(), to.path()).unwrap();
        same_tensors(from.path(), to.path());
        let json = |dir: &Path, name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
        };
        for name in ["config.json", "model.safetensors.index.json"] {
            assert_eq!(json(from.path(), name), json(to.path(), name));
        }
        if dtype == "float16" {
            continue;
        }
        // a mapped model, saved, is the same once more
        let device: Arc<dyn Device> = Arc::new(Cpu::new(1));
        let capacity = Capacity::generating(&*device, 1);
        let model = Model::map(from.path(), device, Mesh::one(), capacity).unwrap();
        let again = tempfile::tempdir().unwrap();
        model.save_sharded(again.path(), 60_000).unwrap();
        same_tensors(from.path(), again.path());
    }
}

#[test]
fn a_folder_without_an_index_stays_one_file() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = config("bfloat16", false);
    let one = (Stored::BF16, huggingface::SHARD_BYTES);
    let mut ones = |tensor: &tensor_file::Tensor, put: &mut tensor_file::Put<'_>| {
        put(&Stored::BF16.encode(&vec![1.0; tensor.bytes / 2]))
    };
    huggingface::write(from.path(), &config, one, &mut ones).unwrap();
    huggingface::copy(from.path(), to.path()).unwrap();
    let names = |dir: &Path| {
        let names = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    assert_eq!(names(to.path()), ["config.json", "model.safetensors"]);
    assert_eq!(names(from.path()), names(to.path()));
    same_tensors(from.path(), to.path());
}
