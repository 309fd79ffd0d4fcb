//! Import and export of Hugging Face checkpoints: `config.json` and `model.safetensors`, in one
//! file or in shards with an index. Names, shapes and bytes go out as they came in. A model that is
//! only read can have its weights where the files hold them ([`Model::map`]); no way through here
//! has more of a checkpoint in memory than a few rows, besides the model itself.
//!
//! Not our own checkpoints (`checkpoint.rs`), which hold the optimizer too and any division among
//! ranks.

use crate::Error;
use crate::config::Config;
use crate::memory::{Capacity, Precision, working_dtype};
use crate::model::{Model, check};
use crate::packs::Packs;
use crate::parameters::Parameters;
use crate::shard::{Pipeline, Shard};
use crate::table::{Entry, Table};
use crate::tensor_file::{self, Put, Stored, Tensor, TensorFile};
use quipu_math::{Buffer, DType, Device, Queue, View};
use quipu_mesh::Mesh;
use quipu_store::atomic;
use quipu_store::manifest::{self, Manifest};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Largest file that is written before a checkpoint is divided into shards.
pub const SHARD_BYTES: usize = 5_000_000_000;

/// Elements that pass through memory at once, where weights are converted or copied.
const PIECE: usize = 1 << 20;

/// Small files beside the weights that belong to the model and are not ours to change.
const COMPANIONS: [&str; 6] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
];

/// Format and version of the manifest that a folder written by a run has beside Hugging Face's files.
const FORMAT: &str = "quipu.model";
const VERSION: u32 = 1;

/// Seals a finished folder: checksums of all its files, in a manifest that other tools do not mind.
/// Safetensors have none, so a flipped bit would be a slightly other model.
///
/// # Errors
/// A file that cannot be read; a full disk.
pub fn seal(folder: &Path) -> Result<(), Error> {
    let io = |source| Error::Store(quipu_store::Error::io("list", folder, source));
    let entries = std::fs::read_dir(folder).map_err(io)?;
    let names = entries.map(|e| e.map(|e| e.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>, _>>().map_err(io)?;
    names.sort();
    let mut manifest = Manifest::new(FORMAT, VERSION);
    for name in names {
        manifest.add(folder, &name)?;
    }
    Ok(manifest.write(folder)?)
}

/// Holds a sealed folder against its manifest. One without, or with somebody else's, is taken as it
/// is.
fn verify(folder: &Path) -> Result<(), Error> {
    let text = std::fs::read_to_string(folder.join(manifest::NAME)).unwrap_or_default();
    if text.contains(&format!("\"{FORMAT}\"")) {
        Manifest::read_verified(folder, FORMAT, VERSION)?;
    }
    Ok(())
}

/// The weights of a checkpoint folder, checked against a parameter table.
#[derive(Debug)]
pub struct Import {
    files: Vec<TensorFile>,
    /// Which file holds which tensor.
    home: BTreeMap<String, usize>,
}

impl Import {
    /// Opens the weights in `folder` and holds them against `table`: every parameter is there, in
    /// its shape, in a type that is read; nothing else is.
    ///
    /// # Errors
    /// No weights, a damaged file, a tensor missing, too many or of another shape or type.
    pub fn open(folder: &Path, table: &Table) -> Result<Import, Error> {
        verify(folder)?;
        let paths = weight_files(folder)?;
        let files: Vec<TensorFile> =
            paths.iter().map(|path| TensorFile::open(path)).collect::<Result<_, _>>()?;
        let mut home = BTreeMap::new();
        for (i, file) in files.iter().enumerate() {
            for name in file.names() {
                if home.insert(name.to_string(), i).is_some() {
                    let why = format!("tensor '{name}' stands in two files");
                    return Err(Error::Corrupt { why }.in_file(file.path()));
                }
            }
        }
        let import = Import { files, home };
        import.check(folder, table)?;
        Ok(import)
    }

    fn check(&self, folder: &Path, table: &Table) -> Result<(), Error> {
        // what is missing is said first: it tells more about a wrong model than a shape does
        for entry in table.entries() {
            if !self.home.contains_key(&entry.name) {
                let (name, shape) = (entry.name.clone(), entry.shape.clone());
                return Err(Error::Missing { name, shape }.in_file(folder));
            }
        }
        for entry in table.entries() {
            let file = &self.files[self.home[&entry.name]];
            let found = file.shape(&entry.name)?;
            if found != entry.shape {
                let (name, found) = (entry.name.clone(), found.to_vec());
                let expected = entry.shape.clone();
                return Err(Error::Shape { name, found, expected }.in_file(file.path()));
            }
            let found = file.dtype(&entry.name)?;
            if !["F32", "F64", "BF16", "F16"].contains(&found.as_str()) {
                return Err(Error::Dtype { name: entry.name.clone(), found }.in_file(file.path()));
            }
        }
        for (name, file) in &self.home {
            let known = table.by_name(name).is_some() || self.is_harmless(name, table)?;
            if !known {
                return Err(Error::Extra { name: name.clone() }.in_file(self.files[*file].path()));
            }
        }
        Ok(())
    }

    /// Old buffers that are computed anew, and a tied head stored beside the embedding it equals.
    fn is_harmless(&self, name: &str, table: &Table) -> Result<bool, Error> {
        if name.ends_with(".rotary_emb.inv_freq") {
            return Ok(true);
        }
        let embedding = &table.entries()[0].name;
        if name != "lm_head.weight" {
            return Ok(false);
        }
        let bytes = |name: &str| self.files[self.home[name]].bytes(name);
        Ok(bytes(name)? == bytes(embedding)?)
    }

    /// The number of the file that holds a parameter.
    fn home(&self, entry: &Entry) -> Result<usize, Error> {
        self.home.get(&entry.name).copied().ok_or_else(|| {
            let (name, shape) = (entry.name.clone(), entry.shape.clone());
            Error::Missing { name, shape }
        })
    }

    /// Whether the file has a parameter in this very type.
    fn has(&self, entry: &Entry, dtype: DType) -> Result<bool, Error> {
        let found = self.files[self.home(entry)?].dtype(&entry.name)?;
        Ok(found.eq_ignore_ascii_case(dtype.name()))
    }

    /// Refuses weights that are no numbers, by the first tensor that has one. All of them are read.
    ///
    /// # Errors
    /// [`Error::NotANumber`] with its file.
    pub fn finite(&self, table: &Table) -> Result<(), Error> {
        for entry in table.entries() {
            let file = &self.files[self.home(entry)?];
            for rows in pieces(entry.rows, entry.cols) {
                let first = rows.start * entry.cols;
                let values = file.some_floats(&entry.name, first..rows.end * entry.cols)?;
                if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                    let (name, found) = (entry.name.clone(), values[at]);
                    let error = Error::NotANumber { name, found, element: first + at };
                    return Err(error.in_file(file.path()));
                }
            }
        }
        Ok(())
    }

    /// The part that `entry` has of a parameter into `out` (rows × cols, any float).
    ///
    /// # Errors
    /// A parameter of another table; what the device reports.
    pub fn copy(&self, device: &dyn Device, entry: &Entry, out: &View) -> Result<(), Error> {
        let file = &self.files[self.home(entry)?];
        if entry.is_whole() && self.has(entry, out.dtype())? {
            return Ok(device.write(Queue::MAIN, out, file.bytes(&entry.name)?)?);
        }
        let (wide, (top, left)) = (entry.whole_cols(), entry.first);
        for rows in pieces(entry.rows, wide) {
            let elements = (top + rows.start) * wide..(top + rows.end) * wide;
            let mut values = file.some_floats(&entry.name, elements)?;
            if entry.cols < wide {
                let own = values.chunks_exact(wide).flat_map(|row| &row[left..left + entry.cols]);
                values = own.copied().collect();
            }
            device.write_floats(&out.slice_rows(rows)?, &values)?;
        }
        Ok(())
    }

    /// All parameters in `dtype` for a model that only reads them: in place where a file has one in
    /// this type, and the device can; else in memory. Also the bytes of the latter.
    fn parameters(
        &self,
        device: &dyn Device,
        dtype: DType,
        table: &Table,
    ) -> Result<(Parameters, usize), Error> {
        let lent: Vec<_> = self.files.iter().map(|file| device.lend(&file.lent())).collect();
        let mut bytes = 0;
        let place = |entry: &Entry| match self.in_place(&lent, entry, dtype)? {
            Some(view) => Ok(view),
            None => {
                let view = device.matrix(dtype, entry.rows, entry.cols)?;
                bytes += view.bytes();
                self.copy(device, entry, &view)?;
                Ok(view)
            }
        };
        Ok((Parameters::apart(table, place)?, bytes))
    }

    /// A view into a file, whose offsets may begin between two elements.
    fn in_place(
        &self,
        lent: &[Option<Buffer>],
        entry: &Entry,
        dtype: DType,
    ) -> Result<Option<View>, Error> {
        let home = self.home(entry)?;
        let start = self.files[home].place(&entry.name)?.start;
        let fits = self.has(entry, dtype)? && start.is_multiple_of(dtype.size());
        let Some(buffer) = lent[home].as_ref().filter(|_| fits) else { return Ok(None) };
        let at = start / dtype.size();
        Ok(Some(View::dense(buffer.clone(), dtype, at, entry.rows, entry.cols)?))
    }

    /// Whether all matrices are bf16.
    fn is_bf16(&self, table: &Table) -> Result<bool, Error> {
        let mut matrices = table.entries().iter().filter(|entry| entry.shape.len() == 2);
        matrices.try_fold(true, |all, entry| Ok(all && self.has(entry, DType::BF16)?))
    }
}

/// The files that hold the weights of a folder.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let index = folder.join(INDEX);
    if !index.exists() {
        let single = folder.join(SINGLE);
        return match single.exists() {
            true => Ok(vec![single]),
            false => Err(Error::NoWeights { folder: folder.into() }),
        };
    }
    let text = std::fs::read_to_string(&index)
        .map_err(|source| Error::Io { path: index.clone(), source })?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| Error::NotJson { why: e.to_string() }.in_file(&index))?;
    let corrupt = |why: String| Error::Corrupt { why }.in_file(&index);
    let Some(map) = value.get("weight_map").and_then(Value::as_object) else {
        return Err(corrupt("it has no object 'weight_map'".into()));
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for (tensor, file) in map {
        // a file beside the index, and nowhere else
        let name = file
            .as_str()
            .filter(|name| !name.contains(['/', '\\']) && name.ends_with(".safetensors"));
        let Some(name) = name else {
            return Err(corrupt(format!(
                "tensor '{tensor}' stands in {file}, which is no file name here"
            )));
        };
        files.push(folder.join(name));
    }
    files.sort();
    files.dedup();
    if files.is_empty() {
        return Err(corrupt("its 'weight_map' is empty".into()));
    }
    Ok(files)
}

/// The rows of a matrix in pieces of at most [`PIECE`] elements, or of one row.
fn pieces(rows: usize, cols: usize) -> impl Iterator<Item = Range<usize>> {
    let step = (PIECE / cols.max(1)).max(1);
    (0..rows).step_by(step).map(move |row| row..(row + step).min(rows))
}

impl Model {
    /// A model from a Hugging Face folder: configuration, memory, weights.
    ///
    /// # Errors
    /// All of [`Config::load`], [`Model::new`] and [`Model::load`].
    pub fn open(
        folder: &Path,
        device: Arc<dyn Device>,
        mesh: Mesh,
        capacity: Capacity,
    ) -> Result<Model, Error> {
        let config = Config::load(folder)?;
        // damaged weights are said before memory is taken for them
        let import = Import::open(folder, &Table::new(&config))?;
        let mut model = Model::new(device, mesh, config, capacity)?;
        model.take(&import)?;
        Ok(model)
    }

    /// A model from a Hugging Face folder that only reads its weights, for generation and
    /// log-probabilities: they stay in the folder's files, which are mapped and must not change, as
    /// far as their type is the one computed in, and the device reads memory of the host; what does
    /// not is converted into memory. Nothing is packed beforehand. A write to a weight is refused.
    ///
    /// A checkpoint whose matrices are bf16 is computed with in [`Precision::MIXED`] on a device that
    /// computes in f32; any other in `capacity.precision`. The bits are those of a copy
    /// ([`Model::open`]) in the same precision.
    ///
    /// # Errors
    /// As [`Model::open`]; a capacity with gradients.
    pub fn map(
        folder: &Path,
        device: Arc<dyn Device>,
        mesh: Mesh,
        mut capacity: Capacity,
    ) -> Result<Model, Error> {
        let config = Config::load(folder)?;
        let table = Table::new(&config);
        let import = Import::open(folder, &table)?;
        check(&config, &capacity)?;
        if capacity.gradients {
            return Err(Error::Call {
                what: "capacity",
                found: "one with gradients, for weights that are only read".into(),
                expected: "Capacity { gradients: false, .. }, or Model::open".into(),
            });
        }
        if import.is_bf16(&table)? && working_dtype(&*device) == DType::F32 {
            capacity.precision = Precision::MIXED;
        }
        if mesh.axes().world() > 1 {
            let why = "weights are read in place on one rank; use Model::open".into();
            return Err(Error::Mesh { axes: mesh.axes().to_string(), why });
        }
        let (weights, bytes) = import.parameters(&*device, capacity.precision.weights, &table)?;
        let packs = Packs::none(config.layers);
        let parts = (config.clone(), Shard::whole(&config), Pipeline::default(), table);
        Model::with(device, mesh, parts, capacity, (weights, bytes, packs))
    }

    /// Reads the weights of a Hugging Face folder into this model.
    ///
    /// # Errors
    /// As [`Import::open`]; the weights are then as before.
    pub fn load(&mut self, folder: &Path) -> Result<(), Error> {
        let import = Import::open(folder, &Table::new(&self.config))?;
        self.take(&import)
    }

    fn take(&mut self, import: &Import) -> Result<(), Error> {
        let mut entries = self.table.entries().iter();
        entries.try_for_each(|entry| {
            self.fill(entry, |weight| import.copy(&*self.device, entry, weight))
        })
    }

    /// Writes `config.json` and the weights into `folder`, in the element type that the
    /// configuration names (`dtype`, `torch_dtype`; F32 where neither is there).
    ///
    /// # Errors
    /// A model that is divided over ranks; what the device or the file system reports.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        self.save_sharded(folder, SHARD_BYTES)
    }

    /// As [`Model::save`], in files of at most `bytes` bytes of weights each where there is more.
    ///
    /// # Errors
    /// As [`Model::save`].
    pub fn save_sharded(&self, folder: &Path, bytes: usize) -> Result<(), Error> {
        if !self.shard.is_whole() || self.mesh.is_fully_sharded() {
            let why = "a rank has a part of the weights; export a checkpoint instead".into();
            return Err(Error::Mesh { axes: self.mesh.axes().to_string(), why });
        }
        let name = self.config.kept("dtype").or(self.config.kept("torch_dtype"));
        let stored = Stored::named(name.and_then(Value::as_str));
        write(folder, &self.config, (stored, bytes), &mut |tensor, put| {
            let entry = self.table.by_name(&tensor.name).ok_or_else(|| Error::Missing {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
            })?;
            let weight = self.weights.parameter(entry)?;
            for rows in pieces(entry.rows, entry.cols) {
                put(&stored.encode(&self.device.read_f32(&weight.slice_rows(rows)?)?))?;
            }
            Ok(())
        })
    }
}

/// What gives the bytes of a tensor, piece by piece.
type Fill<'a> = dyn FnMut(&Tensor, &mut Put<'_>) -> Result<(), Error> + 'a;

/// Writes a checkpoint of a configuration in files of at most so many bytes of weights: tensors of
/// one type, whose bytes `fill` gives. `config.json` comes last: where it is, all is there.
///
/// # Errors
/// What `fill` or the file system reports.
pub fn write(
    folder: &Path,
    config: &Config,
    (stored, most): (Stored, usize),
    fill: &mut Fill<'_>,
) -> Result<(), Error> {
    atomic::create_dir(folder)?;
    let table = Table::new(config);
    let tensor = |entry: &Entry| Tensor::new(&entry.name, &entry.shape, stored);
    let mut tensors: Vec<Tensor> = table.entries().iter().map(tensor).collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    write_files(folder, &numbered(divide(tensors, most)), fill)?;
    Ok(atomic::write_bytes(&folder.join("config.json"), config.to_json().as_bytes())?)
}

/// Copies the configuration and the weights of a checkpoint, checked like those of a model, from one
/// folder to another: tensor by tensor, in the files in which they came. Only a file of more than
/// [`SHARD_BYTES`] is divided. Returns the table of its parameters.
///
/// # Errors
/// As [`Import::open`]; what the file system reports.
pub fn copy(from: &Path, to: &Path) -> Result<Table, Error> {
    let table = Table::new(&Config::load(from)?);
    let import = Import::open(from, &table)?;
    atomic::create_dir(to)?;
    let path = from.join("config.json");
    let config = std::fs::read(&path).map_err(|source| Error::Io { path, source })?;
    let parts = import.files.iter().map(|file| divide(file.tensors(), SHARD_BYTES));
    let parts: Vec<Vec<Vec<Tensor>>> = parts.collect();
    let name = |file: &TensorFile| file.path().file_name().map(|n| n.to_string_lossy().into());
    let names: Option<Vec<String>> = import.files.iter().map(name).collect();
    let files = match names {
        Some(names) if parts.iter().all(|part| part.len() == 1) => {
            names.into_iter().zip(parts.into_iter().flatten()).collect()
        }
        _ => numbered(parts.into_iter().flatten().collect()),
    };
    write_files(to, &files, &mut |tensor, put| {
        let file = &import.files[import.home[&tensor.name]];
        file.bytes(&tensor.name)?.chunks(PIECE).try_for_each(put)
    })?;
    atomic::write_bytes(&to.join("config.json"), &config)?;
    Ok(table)
}

/// Neighbouring tensors together while they fit; a tensor is never cut.
fn divide(tensors: Vec<Tensor>, most: usize) -> Vec<Vec<Tensor>> {
    let mut shards: Vec<Vec<Tensor>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        let last = shards.len() - 1;
        if filled + tensor.bytes > most && !shards[last].is_empty() {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += tensor.bytes;
        let last = shards.len() - 1;
        shards[last].push(tensor);
    }
    shards
}

/// Shards with the names that Hugging Face gives them.
fn numbered(shards: Vec<Vec<Tensor>>) -> Vec<(String, Vec<Tensor>)> {
    let count = shards.len();
    let name = |i: usize| match count {
        1 => SINGLE.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
    };
    shards.into_iter().enumerate().map(|(i, shard)| (name(i), shard)).collect()
}

/// Files of weights, and the index where there is more than the one.
fn write_files(
    folder: &Path,
    files: &[(String, Vec<Tensor>)],
    fill: &mut Fill<'_>,
) -> Result<(), Error> {
    let (mut map, mut total) = (Map::new(), 0);
    for (file, tensors) in files {
        tensor_file::write(&folder.join(file), tensors, fill)?;
        for tensor in tensors {
            total += tensor.bytes;
            map.insert(tensor.name.clone(), json!(file));
        }
    }
    if matches!(files, [(name, _)] if name == SINGLE) {
        return Ok(());
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    let text =
        serde_json::to_string_pretty(&index).map_err(|e| Error::NotJson { why: e.to_string() })?;
    Ok(atomic::write_bytes(&folder.join(INDEX), text.as_bytes())?)
}

/// Copies the small files that belong to a checkpoint (generation settings, tokenizer) from one
/// folder to another, where they exist.
///
/// # Errors
/// What the file system reports.
pub fn copy_companions(from: &Path, to: &Path) -> Result<(), Error> {
    for name in COMPANIONS {
        let path = from.join(name);
        if path.exists() {
            let bytes = std::fs::read(&path).map_err(|source| Error::Io { path, source })?;
            atomic::write_bytes(&to.join(name), &bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sizes;
    use quipu_math::Reference;

    fn device() -> Arc<dyn Device> {
        Arc::new(Reference::new())
    }

    fn config(dtype: &str) -> Config {
        let mut config = Config::new(Sizes {
            vocab_size: 16,
            hidden_size: 8,
            intermediate_size: 6,
            layers: 2,
            heads: 2,
            kv_heads: 1,
            max_positions: 8,
            tied: false,
        })
        .unwrap();
        config.keep("dtype", json!(dtype)).unwrap();
        config
    }

    /// A sound folder of several shards.
    fn written(dtype: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let capacity = Capacity::frozen(&*device(), 0);
        let mut model = Model::new(device(), Mesh::one(), config(dtype), capacity).unwrap();
        model.init(3).unwrap();
        model.save_sharded(dir.path(), 1200).unwrap();
        dir
    }

    fn open(folder: &Path) -> Result<Model, Error> {
        Model::open(folder, device(), Mesh::one(), Capacity::frozen(&*device(), 0))
    }

    fn check_refused(spoil: impl Fn(&Path), word: &str) {
        let dir = written("float32");
        assert!(open(dir.path()).is_ok());
        spoil(dir.path());
        let error = open(dir.path()).expect_err(word).to_string();
        assert!(error.contains(word), "expected '{word}': {error}");
    }

    fn edit(folder: &Path, from: &str, to: &str) {
        let path = folder.join(INDEX);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    #[test]
    fn shards_in_every_type_come_back_as_they_went() {
        for dtype in ["float32", "bfloat16", "float16"] {
            let dir = written(dtype);
            assert!(
                dir.path().join("model-00002-of-00002.safetensors").exists() || dtype == "float32"
            );
            let model = open(dir.path()).unwrap();
            let again = tempfile::tempdir().unwrap();
            model.save_sharded(again.path(), 1200).unwrap();
            for file in std::fs::read_dir(dir.path()).unwrap() {
                let name = file.unwrap().file_name();
                let read = |dir: &Path| std::fs::read(dir.join(&name)).unwrap();
                assert!(read(dir.path()) == read(again.path()), "{dtype}: {name:?}");
            }
            assert_eq!(model.config().kept("dtype"), Some(&json!(dtype)));
        }
    }

    #[test]
    fn damaged_folders_are_refused() {
        let first = |dir: &Path| weight_files(dir).unwrap()[0].clone();
        check_refused(|dir| edit(dir, "model-00001", "../model-00001"), "no file name");
        check_refused(|dir| edit(dir, "model-00001", "model-00009"), "model-00009");
        check_refused(|dir| edit(dir, "weight_map", "weights"), "weight_map");
        check_refused(|dir| edit(dir, "{", "{{"), "JSON");
        check_refused(
            |dir| std::fs::write(dir.join(INDEX), "{\"weight_map\":{}}").unwrap(),
            "empty",
        );
        check_refused(|dir| std::fs::remove_file(dir.join(INDEX)).unwrap(), "no model.safetensors");
        check_refused(|dir| std::fs::remove_file(first(dir)).unwrap(), "model-00001");
        let copy = |dir: &Path| {
            let files = weight_files(dir).unwrap();
            std::fs::copy(&files[0], &files[1]).unwrap();
        };
        check_refused(copy, "stands in two files");
        let cut = |dir: &Path| {
            let bytes = std::fs::read(first(dir)).unwrap();
            std::fs::write(first(dir), &bytes[..bytes.len() - 1]).unwrap();
        };
        check_refused(cut, "model-00001");
        let wider = |dir: &Path| {
            let mut other = config("float32");
            other.intermediate_size = 7;
            std::fs::write(dir.join("config.json"), other.to_json()).unwrap();
        };
        check_refused(wider, "[6, 8]");
        let deeper = |dir: &Path| {
            let mut other = config("float32");
            other.layers = 3;
            std::fs::write(dir.join("config.json"), other.to_json()).unwrap();
        };
        check_refused(deeper, "model.layers.2.");
        let tied = |dir: &Path| {
            let mut other = config("float32");
            other.tied = true;
            std::fs::write(dir.join("config.json"), other.to_json()).unwrap();
        };
        check_refused(tied, "lm_head.weight");
    }
}
