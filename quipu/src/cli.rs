//! Flags and commands, in the order in which data flows. Not what they do.

use clap::{Args, Parser, Subcommand, ValueEnum};
use quipu_train::recipe::Dtype;
use std::path::PathBuf;

/// The Llama 3 recipe as one program: crawl, corpus, tokens, model, chat.
#[derive(Debug, Parser)]
#[command(name = "quipu", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// what every command takes
    #[command(flatten)]
    pub global: Global,
    /// the command
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Change a value of the recipe, such as train.steps=100; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
    /// A recipe file instead of the one in the program
    #[arg(long, value_name = "FILE", global = true)]
    pub recipe: Option<PathBuf>,
    /// Print what a run would do and need (memory by kind, work, time), and do nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Print one JSON object as result; lines for people go to standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// The folder of the run [default: runs/NAME]
    #[arg(long, value_name = "DIR", global = true)]
    pub run_dir: Option<PathBuf>,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", global = true)]
    pub seed: Option<u64>,
    /// Print errors and the result only
    #[arg(long, global = true)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// From a crawl to a model that answers: all stages, one command
    Speedrun(Trained),
    /// Write a simulated world: a crawl with the truth about each page, for any pipeline
    World {
        /// The folder to write
        dir: PathBuf,
        /// Multiples of the default world of some 6,200 pages
        #[arg(long, default_value_t = 1.0)]
        size: f64,
    },
    /// Say what inputs hold before anything runs: kinds, counts, what will be skipped, estimates
    Look {
        /// WARC, HTML, text, Markdown, JSON Lines, Parquet, a checkpoint folder, or `rust-docs`;
        /// named as `curate --help` says
        #[arg(required = true)]
        input: Vec<PathBuf>,
    },
    /// Print main text as JSON Lines: id, url, text; nothing is judged or removed
    Extract {
        /// WARC, HTML (also .gz), text, Markdown, JSON Lines or Parquet, files or folders; named as
        /// `curate --help` says
        #[arg(required = true)]
        input: Vec<PathBuf>,
    },
    /// Make clean documents of a crawl, with the fate of everything that was dropped
    Curate(Box<Curate>),
    /// Train classifiers of documents, and score documents with them
    Classify {
        /// What to do
        #[command(subcommand)]
        what: Classify,
    },
    /// Go on with a run up to its base model
    Train(Train),
    /// Go on with a run up to its final model
    Tune(Trained),
    /// Examine a run's models
    Eval(Trained),
    /// Talk with a model
    Chat {
        /// A run's folder, or a Hugging Face checkpoint with a tokenizer
        from: PathBuf,
        /// Ask this once instead of talking
        #[arg(long, value_name = "TEXT")]
        prompt: Option<String>,
        /// Which model of a run
        #[arg(long, value_enum, default_value_t = Stage::Final)]
        stage: Stage,
        /// Most tokens of an answer
        #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
        max_tokens: usize,
        /// 0 takes the most likely token each time
        #[arg(long, value_name = "T", default_value_t = 0.0)]
        temperature: f64,
        /// The ranks over which the model is divided, such as tp=2,pp=2
        #[arg(long, value_name = "MESH", default_value = "", hide_default_value = true)]
        mesh: String,
    },
    /// Look at runs beside each other
    Run {
        /// What to do
        #[command(subcommand)]
        what: RunCommand,
    },
    /// Write a run's report.json and report.html anew, and show what the run said
    Report {
        /// The run's folder
        run: PathBuf,
    },
    /// Write a model as a Hugging Face checkpoint
    Export {
        /// A run's folder, or a checkpoint folder
        from: PathBuf,
        /// The folder to write
        to: PathBuf,
        /// Which model of a run
        #[arg(long, value_enum, default_value_t = Stage::Final)]
        stage: Stage,
    },
    /// Hold the program against reference tensors; exit status 1 when out of tolerance
    Verify {
        /// A Hugging Face checkpoint
        model: PathBuf,
        /// The case: a safetensors file
        case: PathBuf,
        /// Which device computes
        #[arg(long, value_enum, default_value_t = Referee::Cpu)]
        device: Referee,
        /// In what numbers the cpu computes
        #[arg(long, value_enum, default_value = "f32")]
        dtype: Numbers,
        /// The ranks that compute together, such as tp=2,cp=2,pp=2 (threads of this process)
        #[arg(long, value_name = "MESH", default_value = "", hide_default_value = true)]
        mesh: String,
    },
    /// Measure this machine at one part of the work
    Bench {
        /// What to measure
        #[command(subcommand)]
        what: Bench,
    },
    /// Say what this machine has
    Doctor,
}

/// What a cluster consists of; both run until they are interrupted.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Hand the shuffles of runs to executors (feature `cluster`)
    Scheduler {
        /// Where to listen; port 0 takes a free one. There are no passwords: not on open networks
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50050")]
        bind: String,
        /// Seconds of silence after which an executor counts as dead and its tasks are given away
        #[arg(long, value_name = "SECONDS", default_value_t = 20,
              value_parser = clap::value_parser!(u64).range(6..))]
        dead_after: u64,
    },
    /// Work for a scheduler (feature `cluster`)
    Executor {
        /// The scheduler's address
        #[arg(long, value_name = "HOST:PORT")]
        scheduler: String,
        /// Folder for rows under way; the folders of runs must be seen here under their own paths
        #[arg(long, value_name = "DIR")]
        work: PathBuf,
        /// Where others fetch rows from; 0.0.0.0:0 for all networks, with a free port
        #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
        bind: std::net::SocketAddr,
        /// Tasks at a time [default: one for each processor]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        workers: Option<u16>,
        /// Memory of all tasks together, such as 8GiB; what does not fit is spilled
        #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = memory)]
        memory: u64,
    },
}

/// `512MiB`, `8GiB`: memory in powers of 1024.
fn memory(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale: u64 = match &text[digits.len()..] {
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        unit => return Err(format!("unknown unit {unit:?}: MiB, GiB or TiB, such as 8GiB")),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a size such as 8GiB")?;
    let bytes = number.checked_mul(scale).ok_or("that is more than any machine has")?;
    if bytes < 64 << 20 { Err("less than 64MiB is no memory to sort in".into()) } else { Ok(bytes) }
}

/// What a run reads.
#[derive(Debug, Args)]
pub struct Input {
    /// What to read instead of the simulated world: WARC, HTML, text, Markdown, JSON Lines or
    /// Parquet, files or folders, recognised by content; `rust-docs` is the installed one. All its
    /// languages are kept unless a recipe or `--set corpus.languages=["en"]` says otherwise
    ///
    /// Names are paths, folders, patterns ('data/*.warc.gz'; ** stands for any folders),
    /// https://host/file, s3://bucket/key, s3://bucket/prefix/, 's3://bucket/*/warc/*.gz', and
    /// @list.txt: a list of such names, one a line, paths relative to it, # begins a comment.
    /// S3 takes credentials from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN,
    /// the region from AWS_REGION, another server from AWS_ENDPOINT_URL; with none of them requests
    /// are not signed (AWS_SKIP_SIGNATURE=false asks the machine's role). What is on a server is
    /// read by ranges; a request is tried ten times over some two minutes
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// Dialogues to tune on, JSON Lines of {"messages": […]}, instead of made ones
    #[arg(long, value_name = "FILE")]
    pub dialogues: Option<PathBuf>,
    /// How much of the input to read, chosen by hash: bytes such as 100MB, or a number of pages
    /// [default: 100MB of a run's input, everything with --out]
    #[arg(long, value_name = "SIZE", value_parser = sample)]
    pub sample: Option<quipu_corpus::Sample>,
}

/// What a command that trains is told.
#[derive(Debug, Args)]
pub struct Trained {
    /// what is read
    #[command(flatten)]
    pub input: Input,
    /// While it trains, answer GET /metrics at this address, in Prometheus' text format; port 0
    /// takes a free one, which is printed. There are no passwords: not on open networks
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<String>,
    /// where it begins
    #[command(flatten)]
    pub begun: Begun,
    /// Go on where a stage in which the context grows has spent its steps without passing its gate
    #[arg(long)]
    pub allow_cap: bool,
    /// The ranks over which training is divided, such as tp=2,cp=2,pp=2,dp=2 (axes left out are 1);
    /// of a pipeline also v=CHUNKS, n=MICRO-BATCHES, layers=3/4/4/3, schedule=zero-bubble. Of the ranks
    /// that hold the same parameters: sharing=full (weights and gradients are shared out as states
    /// are), group=N (so many share out one copy), overlap=off. A run may go on with others than it
    /// began with [default: the recipe's]
    #[arg(long, value_name = "MESH")]
    pub mesh: Option<String>,
    /// Compare, bit by bit after each step, what several ranks hold the same of
    #[arg(long)]
    pub check: bool,
    /// Where ranks are processes (mpirun -n 8 quipu train …): seconds that they wait for one that
    /// lives and does not come. A process that gives no sign of life has a twentieth of it
    #[arg(long, value_name = "SECONDS", default_value_t = LATE_AFTER,
        value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub late_after: u64,
}

/// Seconds that ranks wait for one that lives, where nobody says how long.
pub const LATE_AFTER: u64 = 600;

/// What `train` is told.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Train {
    /// what else there is about training
    #[command(subcommand)]
    pub about: Option<AboutTraining>,
    /// A recipe file, as --recipe
    #[arg(value_name = "RECIPE", conflicts_with = "recipe")]
    pub file: Option<PathBuf>,
    /// as every command that trains
    #[command(flatten)]
    pub told: Trained,
}

/// What there is about training, without a run.
#[derive(Debug, Subcommand)]
pub enum AboutTraining {
    /// Show what each rank of a pipeline does, and when
    Schedule {
        /// Ranks of the pipeline
        #[arg(long, value_name = "N")]
        pp: usize,
        /// Chunks of layers on each rank
        #[arg(long, value_name = "N", default_value_t = 1)]
        v: usize,
        /// Micro-batches of a step
        #[arg(long, value_name = "N")]
        micro_batches: usize,
        /// Micro-batches that go through a chunk one behind the other [default: as even as possible]
        #[arg(long, value_name = "N")]
        n: Option<usize>,
        /// Compute the gradients of weights when a rank would wait
        #[arg(long)]
        zero_bubble: bool,
        /// Also draw it into this file
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Say how long a step takes on machines with other links, and what of communication is waited
    /// for: with overlap, and without
    Simulate {
        /// A recipe file, as --recipe
        #[arg(value_name = "RECIPE", conflicts_with = "recipe")]
        file: Option<PathBuf>,
        /// The ranks, as train has them [default: the recipe's]
        #[arg(long, value_name = "MESH")]
        mesh: Option<String>,
        /// What each rank is, as flop=4e14,memory=3.35e12,tp=4.5e11/2e-6,dp=5e10/1e-5: FLOP and bytes in
        /// a second, of each axis's links also seconds of latency; what is left out is about as the
        /// paper's cluster: 4e14, 3.35e12, tp=4.5e11/2e-6, the others 5e10/1e-5
        #[arg(long, value_name = "MACHINE", default_value = "", hide_default_value = true)]
        machine: String,
    },
}

/// What continued pre-training is told.
#[derive(Debug, Default, Args)]
pub struct Begun {
    /// Go on with a model of others: a Hugging Face checkpoint with its tokenizer.json, which say
    /// what the model and its vocabulary are; the recipe is recipes/continued.toml unless another
    /// is named
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Text to read again beside the input, so that the model keeps what it knew; named as inputs
    /// are. It is a quarter of what is read unless --set from.replay_share=… says otherwise
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "from")]
    pub replay: Vec<PathBuf>,
}

impl Begun {
    /// As `--set` says it.
    pub fn as_sets(&self) -> Vec<String> {
        let quoted = |path: &PathBuf| toml::Value::String(path.display().to_string()).to_string();
        let mut sets: Vec<String> =
            self.from.iter().map(|model| format!("from.model={}", quoted(model))).collect();
        if !self.replay.is_empty() {
            let paths: Vec<String> = self.replay.iter().map(quoted).collect();
            sets.push(format!("from.replay=[{}]", paths.join(", ")));
        }
        sets
    }
}

/// What `curate` is told. With a recipe of its own, `--out` or `--join` it stands for itself;
/// without, it is a run's stage, and makes or goes on with a run's folder.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Curate {
    /// what else can be done with curated documents
    #[command(subcommand)]
    pub about: Option<About>,
    /// A recipe of curation: input, out and the table corpus, such as recipes/curate.toml
    #[arg(value_name = "CURATION")]
    pub curation: Option<PathBuf>,
    /// what is read
    #[command(flatten)]
    pub input: Input,
    /// The folder to write: documents, fates and a report, with no run around them; also one of a
    /// bucket, s3://bucket/folder
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Work along on what another process curates into this folder, here or of a bucket
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["out", "curation", "input", "sample"])]
    pub join: Option<PathBuf>,
    /// Where work files stand while the folder that is written is a bucket's
    /// [default: the folder for temporary files]
    #[arg(long, value_name = "FOLDER", conflicts_with = "predicate")]
    pub scratch: Option<PathBuf>,
    /// Units at a time in this process [default: the cores]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub workers: Option<usize>,
    /// Do only these of: addresses, rules, languages, dedup, decontaminate (which needs
    /// `corpus.evaluations`); for documents that others made
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Send the documents through a command at the end: JSON Lines in and out
    #[arg(long, value_name = "COMMAND")]
    pub pipe: Option<String>,
    /// Select documents of one folder by an SQL predicate, and nothing else (feature `cluster`)
    #[arg(long = "where", value_name = "SQL", conflicts_with_all = ["only", "pipe", "join"])]
    pub predicate: Option<String>,
    /// Let the shuffles run on the cluster whose scheduler listens here (feature `cluster`);
    /// `local`: as DataFusion plans in this process; `standalone`: on a whole cluster within it
    #[arg(long, value_name = "HOST:PORT")]
    pub cluster: Option<String>,
    /// Most memory of the shuffles, such as 1GiB or 512MB [default: 512MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
}

/// What can be done with classifiers. A recipe of curation applies them while it curates
/// (`corpus.classifiers`); these commands stand for themselves.
#[derive(Debug, Subcommand)]
pub enum Classify {
    /// Train one from examples, measured by cross-validation beside the length of the texts
    Train {
        /// JSON Lines with `text` and `label`, or fastText's lines; FILE=LABEL gives all texts of a
        /// file (JSON Lines, a text a line, documents in Parquet) one label
        #[arg(long, value_name = "FILE[=LABEL]", num_args = 1.., required = true)]
        examples: Vec<String>,
        /// The classifier to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Passes over the examples
        #[arg(long, value_name = "N")]
        epochs: Option<usize>,
        /// Longest run of words that is a feature, 1 to 5
        #[arg(long, value_name = "N")]
        word_grams: Option<usize>,
        /// Buckets of hashed words, as a power of two, 10 to 24
        #[arg(long, value_name = "BITS")]
        bucket_bits: Option<u32>,
    },
    /// Fit the probabilities of one to examples that it has not learned from
    Calibrate {
        /// The classifier, made by train
        model: PathBuf,
        /// As for train
        #[arg(long, value_name = "FILE[=LABEL]", num_args = 1.., required = true)]
        examples: Vec<String>,
        /// The classifier to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Score documents into a file that `corpus.scores` joins by their ids
    Score {
        /// A classifier made by train, or a fastText model (.bin, .ftz)
        model: PathBuf,
        /// Documents: a folder, or a Parquet file
        #[arg(long, value_name = "PATH")]
        input: PathBuf,
        /// The score file to write, a name that ends in .jsonl
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Name of the score [default: the classifier's file name]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The label whose probability is the score; without it NAME/LABEL of the likeliest
        #[arg(long, value_name = "LABEL")]
        label: Option<String>,
    },
}

/// What can be done with runs.
#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// Hold runs against the first by their metrics: what each reached, and how their losses differ
    ///
    /// Losses are compared in pairs, at equal steps, or over the same stretch of tokens where
    /// batches have other sizes. Neighbouring pairs are correlated, so they are put into blocks,
    /// twice as long each time, until the means of neighbouring blocks are not (correlation at most
    /// 0.1, or fewer than 32 blocks left); the 95 % interval is Student's, of these means. The last
    /// fifth of what both have stands by itself: it shows how they end
    Compare(Against),
    /// Say what a set of data is worth: anneal a run's model on it and on what it read anyway
    ///
    /// From a checkpoint of the run's first pre-training, the rate falls to 0 in a line, twice: on the
    /// run's own mix with the set as a part of it (30 %), and on the mix alone, with as many tokens.
    /// Both models take the examination by completing text behind four questions with their
    /// answers. The set helps where their 95 % intervals lie apart
    Probe(Trial),
}

/// What `run probe` is told.
#[derive(Debug, Args)]
pub struct Trial {
    /// The folder of a run whose first pre-training is done
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The set: texts named as inputs are; they are taken as they come, no rule is applied
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub data: Vec<PathBuf>,
    /// Its share of what is read
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    pub share: f64,
    /// The checkpoint to begin with, by its step; the paper's is at half of training
    /// [default: the newest]
    #[arg(long, value_name = "STEP")]
    pub at: Option<u64>,
    /// Steps of the annealing [default: a quarter of the run's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
    /// The rate at its beginning [default: the run's at the checkpoint]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<f64>,
    /// Questions, JSON Lines as the world's exam.jsonl [default: that of the run's world]
    #[arg(long, value_name = "FILE")]
    pub exam: Option<PathBuf>,
    /// Classes of questions that are asked [default: all that stand for themselves]
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub class: Vec<String>,
    /// The folder of both trainings [default: RUN/probes/NAME-OF-THE-SET]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What `run compare` is told.
#[derive(Debug, Args)]
pub struct Against {
    /// Folders of runs, or of a stage below one, such as runs/speedrun/sft; the first is the one
    /// that the others are held against. Those that still run can be read
    #[arg(value_name = "RUN", required = true, num_args = 2..=8)]
    pub runs: Vec<PathBuf>,
    /// Write a page with their curves over each other
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Compare at equal steps or at equal tokens [default: steps, where those saw as many tokens]
    #[arg(long, value_enum)]
    pub by: Option<Equal>,
}

/// What makes points of two runs equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Equal {
    /// the number of the step
    Steps,
    /// the tokens seen
    Tokens,
}

/// What can be asked of curated documents.
#[derive(Debug, Subcommand)]
pub enum About {
    /// Tell the fate of one document, rule by rule
    Explain {
        /// The folder of curated documents, or a run's folder
        folder: PathBuf,
        /// Its URL, in any form, or its identity of 32 hexadecimal digits
        #[arg(value_name = "URL-OR-ID")]
        document: String,
    },
    /// The services of a cluster that shuffles for runs with --cluster
    #[command(flatten)]
    Service(Service),
}

/// A thread at least.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("nothing is done by none; 1 is the least".into()),
        Ok(count) if count <= 4096 => Ok(count),
        Ok(_) => Err("more than 4096 threads of one process do not help".into()),
        Err(error) => Err(format!("{error}; use a number such as 8")),
    }
}

/// The least memory of shuffles with which they still move more than they wait.
const LEAST_MEMORY: u64 = 16 << 20;

/// `1GiB`, `512MB`: bytes of memory.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| "expected a size such as 1GiB or 512MB")?;
    let scale = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "" => return Err(format!("of which unit? {text}MiB or {text}GiB")),
        unit => return Err(format!("unknown unit {unit:?}: MB, GB, MiB or GiB")),
    };
    let bytes = number * scale;
    if !(0.0..1e18).contains(&bytes) {
        return Err("that is more than any machine has".into());
    }
    if (bytes as u64) < LEAST_MEMORY {
        return Err(format!("too little to sort in; the least is {}MiB", LEAST_MEMORY >> 20));
    }
    Ok(bytes as u64)
}

/// An answer of no token is none.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("an answer needs at least 1 token".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}; use a number such as 256")),
    }
}

/// `100MB`, `2GB`, `500kB` of pages, or `2000` pages.
fn sample(text: &str) -> Result<quipu_corpus::Sample, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let number: u64 =
        digits.parse().map_err(|_| "expected bytes such as 100MB, or a number of pages")?;
    if number == 0 {
        return Err("a sample has 1 page or byte at least".into());
    }
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" => {
            let documents = Some(number);
            return Ok(quipu_corpus::Sample { documents, bytes: None });
        }
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(format!("unknown unit {unit:?}: kB, MB or GB")),
    };
    let bytes = number.checked_mul(scale).ok_or("that is more than any disk holds")?;
    Ok(quipu_corpus::Sample { bytes: Some(bytes), documents: None })
}

/// Which model of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// after pre-training
    Base,
    /// after fine-tuning on dialogues
    Sft,
    /// after preference training
    Final,
}

/// Which device `verify` computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Referee {
    /// As in training
    Cpu,
    /// f64, plain loops: the oracle of the kernels
    Reference,
    /// The cpu behind a wall: only copies reach its memory
    Opaque,
}

/// Sizes of the step that `bench train` measures.
#[derive(Debug, Args)]
pub struct TrainStep {
    /// In what numbers
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Numbers,
    /// Steps that are timed
    #[arg(long, default_value_t = 20)]
    pub steps: usize,
    /// Threads; as it stands one for each core
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    /// Say which op takes how long
    #[arg(long)]
    pub by_op: bool,
    /// Size of the vocabulary
    #[arg(long, default_value_t = 4096)]
    pub vocab: usize,
    /// Width
    #[arg(long, default_value_t = 384)]
    pub dim: usize,
    /// Layers
    #[arg(long, default_value_t = 6)]
    pub layers: usize,
    /// Query heads
    #[arg(long, default_value_t = 6)]
    pub heads: usize,
    /// Key-value heads
    #[arg(long, default_value_t = 2)]
    pub kv_heads: usize,
    /// Width of the feed-forward
    #[arg(long, default_value_t = 1024)]
    pub ffn: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 256)]
    pub seq: usize,
    /// Rows of a step
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// Rows of a micro-batch at most; as it stands a step is one [default: --batch]
    #[arg(long)]
    pub micro_batch: Option<usize>,
    /// The ranks over which the step is divided, as threads of this process
    #[arg(long, value_name = "MESH", default_value = "", hide_default_value = true)]
    pub mesh: String,
}

/// A checkpoint that is made, read and deleted.
#[derive(Debug, Args)]
pub struct Checkpoint {
    /// The folder for it (`from`) and for its export (`to`); made where it is not there
    pub dir: PathBuf,
    /// Tokens that are decoded
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub tokens: usize,
    /// Threads; as it stands one for each core
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    /// Leave both checkpoints there; a `from` of the same sizes is used again
    #[arg(long)]
    pub keep: bool,
    /// Size of the vocabulary
    #[arg(long, default_value_t = 128_256)]
    pub vocab: usize,
    /// Width
    #[arg(long, default_value_t = 4096)]
    pub dim: usize,
    /// Layers
    #[arg(long, default_value_t = 32)]
    pub layers: usize,
    /// Query heads
    #[arg(long, default_value_t = 32)]
    pub heads: usize,
    /// Key-value heads
    #[arg(long, default_value_t = 8)]
    pub kv_heads: usize,
    /// Width of the feed-forward
    #[arg(long, default_value_t = 14_336)]
    pub ffn: usize,
}

/// In what numbers a model is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Numbers {
    /// Everything in f32
    F32,
    /// Weights and activations in bf16, sums and the optimizer in f32
    Bf16,
}

impl From<Numbers> for Dtype {
    fn from(numbers: Numbers) -> Dtype {
        match numbers {
            Numbers::F32 => Dtype::F32,
            Numbers::Bf16 => Dtype::Bf16,
        }
    }
}

/// What `bench` measures.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// A training step of a Llama; as it stands one of 12.6M parameters, 2,048 tokens a step
    Train(TrainStep),
    /// How long a checkpoint of that model keeps a step waiting: beside a plain copy of its bytes,
    /// and a checkpoint that the step waits for
    Save {
        /// A folder on the disk that is asked about; made where it is not there
        dir: PathBuf,
        /// the model
        #[command(flatten)]
        sizes: TrainStep,
    },
    /// Each op of that training step against the processor's own peak
    Kernels {
        /// In what numbers
        #[arg(long, value_enum, default_value = "f32")]
        dtype: Numbers,
        /// Threads; as it stands one for each core
        #[arg(long, value_parser = threads)]
        threads: Option<usize>,
        /// Milliseconds for each op
        #[arg(long, value_name = "MS", default_value_t = 200)]
        budget: u64,
    },
    /// Main-text extraction of a folder of pages, on one core
    Extract {
        /// The folder
        dir: PathBuf,
    },
    /// Rules, signatures, line hashes and language identification of texts, on one core
    Text {
        /// Text, Markdown, JSON Lines, Parquet, WARC or HTML (extracted first), files or folders
        #[arg(required = true)]
        input: Vec<PathBuf>,
        /// Passes over the texts; the median is given
        #[arg(long, value_name = "N", default_value_t = 5)]
        passes: usize,
    },
    /// Training a vocabulary, Parquet to token shards beside bare encoding, and the loader, on one
    /// core
    Tokens {
        /// Text, Markdown, JSON Lines, Parquet, WARC or HTML (extracted first), files or folders
        #[arg(required = true)]
        input: Vec<PathBuf>,
        /// Passes, in each of which both ways are taken once
        #[arg(long, value_name = "N", default_value_t = 5)]
        passes: usize,
        /// Tokens of the vocabulary, special ones included
        #[arg(long, value_name = "N", default_value_t = 32_000)]
        vocabulary: usize,
    },
    /// Import, export and a few tokens of a random bf16 checkpoint that is read where it lies, and
    /// what memory that takes; as it stands one of Llama 3 8B's shape, 2 x 16 GB of disk
    Checkpoint(Checkpoint),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_of_memory_have_units() {
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("512MB"), Ok(512_000_000));
        assert_eq!(size("1.5gib"), Ok(3 << 29));
        for wrong in ["512", "", "much", "1TB2", "-1GB", "4kB", "1e300GB", "NaNGB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(threads("0").is_err() && threads("x").is_err() && threads("7") == Ok(7));
    }

    #[test]
    fn samples_are_bytes_or_pages() {
        let bytes = |text| sample(text).unwrap().bytes;
        assert_eq!(bytes("100MB"), Some(100_000_000));
        assert_eq!(bytes("3kB"), Some(3_000));
        assert_eq!(sample("2000").unwrap().documents, Some(2000));
        assert!(sample("much").is_err() && sample("5TB").is_err() && sample("").is_err());
        assert!(sample("0").is_err() && sample("0MB").is_err());
        assert!(sample("99999999999GB").is_err());
    }

    #[test]
    fn memory_has_a_unit() {
        assert_eq!(memory("64MiB"), Ok(64 << 20));
        assert_eq!(memory("2TiB"), Ok(2 << 40));
        for wrong in ["1", "1GB", "GiB", "-1GiB", "1MiB", "99999999999TiB"] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_service_has_its_own_flags() {
        let parsed = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parsed("quipu curate --input a").is_ok());
        assert!(parsed("quipu curate scheduler --bind 0.0.0.0:1").is_ok());
        assert!(parsed("quipu curate executor --scheduler h:1 --work w --memory 2GiB").is_ok());
        assert!(parsed("quipu curate executor --work w").is_err());
    }
}
