//! The engine: many requests through one model, several sequences at once, each with its own cache
//! of keys and values. A step takes one token from every sequence that is answering and fills the
//! rest of its rows with prompts that wait; a sequence that ends gives its place to the next. What
//! a request gets does not depend on who else is there: the model's rows have the same bits in any
//! company. Not here: text (see `reply`), HTTP, paging of caches.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use quipu_model::{Chunk, KvCache, Model, Wanted};

use crate::{Error, Sampling};

/// What is to be generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Tokens to go on from; at least one.
    pub prompt: Vec<u32>,
    /// Most new tokens.
    pub max_new: usize,
    /// Tokens that end the answer; they are not part of it.
    pub stop: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Addresses this request's random numbers: give each its own.
    pub sequence: u64,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model said this stop token.
    Stop(u32),
    /// It has `max_new` tokens.
    Length,
    /// The context is full.
    Context,
    /// The caller stopped it.
    Cancelled,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// New tokens, without the stop token.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// From the call to its first token; `None` if it has none.
    pub first_token: Option<Duration>,
}

/// What a call of [`Engine::generate`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Statistics {
    /// Tokens of prompts that were computed.
    pub prompt_tokens: u64,
    /// Tokens that were drawn, stop tokens included.
    pub new_tokens: u64,
    /// Passes through the model.
    pub steps: u64,
    /// Seconds in all.
    pub seconds: f64,
    /// Seconds to the first token of any request.
    pub first_token_seconds: f64,
}

impl Statistics {
    /// New tokens a second.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        self.new_tokens as f64 / self.seconds.max(1e-9)
    }
}

/// A model with caches for several sequences.
#[derive(Debug)]
pub struct Engine<'m> {
    model: &'m mut Model,
    caches: Vec<KvCache>,
    batch: usize,
}

/// A sequence in work.
struct Live {
    request: usize,
    cache: KvCache,
    /// tokens the cache lacks: of the prompt, or the last that was drawn
    pending: Vec<u32>,
    at: usize,
    completion: Completion,
}

impl<'m> Engine<'m> {
    /// An engine for at most `batch` sequences at once (at least one). The model must have been
    /// made with `Capacity::generated` rows: more rows read prompts in fewer steps.
    pub fn new(model: &'m mut Model, batch: usize) -> Self {
        let rows = model.capacity().generated.max(1);
        Self { model, caches: Vec::new(), batch: batch.clamp(1, rows) }
    }

    /// Tokens of context: prompt and answer together.
    #[must_use]
    pub fn context(&self) -> usize {
        self.model.positions()
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        self.model
    }

    /// Answers all requests, in their order. `on_token` hears of each new token (request, token) as
    /// it comes and may end that request; `cancelled` is asked before each step and ends all.
    ///
    /// # Errors
    /// An empty or too long prompt, a sampling rule that draws nothing, logits that are no numbers,
    /// and what the model refuses.
    pub fn generate(
        &mut self,
        requests: &[Request],
        on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(Vec<Completion>, Statistics), Error> {
        self.check(requests)?;
        let began = Instant::now();
        let mut statistics = Statistics::default();
        let mut done: Vec<Option<Completion>> = vec![None; requests.len()];
        let mut waiting: VecDeque<usize> = (0..requests.len()).collect();
        let mut live: Vec<Live> = Vec::new();
        self.provide(requests)?;
        while !(waiting.is_empty() && live.is_empty()) {
            if cancelled() {
                break;
            }
            self.admit(requests, &mut waiting, &mut live)?;
            let drawn = self.step(requests, &mut live, &mut statistics)?;
            for (at, token) in drawn {
                let elapsed = began.elapsed();
                if statistics.new_tokens == 0 {
                    statistics.first_token_seconds = elapsed.as_secs_f64();
                }
                statistics.new_tokens += 1;
                let l = &mut live[at];
                self.take(l, &requests[l.request], token, elapsed, on_token);
            }
            let (open, ended) = live.into_iter().partition(|l| !l.pending.is_empty());
            live = open;
            ended.into_iter().for_each(|l| self.retire(l, &mut done));
        }
        live.into_iter().for_each(|l| self.retire(l, &mut done));
        statistics.seconds = began.elapsed().as_secs_f64();
        let none = || Completion { ids: vec![], finish: Finish::Cancelled, first_token: None };
        Ok((done.into_iter().map(|c| c.unwrap_or_else(none)).collect(), statistics))
    }

    fn check(&self, requests: &[Request]) -> Result<(), Error> {
        if self.model.capacity().generated == 0 {
            return Err(Error::NoRows);
        }
        let room = self.context().saturating_sub(1);
        for (request, r) in requests.iter().enumerate() {
            if r.prompt.is_empty() {
                return Err(Error::EmptyPrompt { request });
            }
            if r.prompt.len() > room {
                return Err(Error::LongPrompt { request, found: r.prompt.len(), room });
            }
            if let Some((what, found, expected)) = r.sampling.fault() {
                return Err(Error::Sampling { request, what, found, expected });
            }
        }
        Ok(())
    }

    /// Caches that are long enough for every request, as many as may be in work at once.
    fn provide(&mut self, requests: &[Request]) -> Result<(), Error> {
        let longest = requests.iter().map(|r| r.prompt.len() + r.max_new).max().unwrap_or(0);
        let longest = longest.min(self.context());
        self.caches.retain(|c| c.capacity() >= longest);
        while self.caches.len() < self.batch.min(requests.len()) {
            self.caches.push(self.model.cache(longest)?);
        }
        Ok(())
    }

    fn admit(
        &mut self,
        requests: &[Request],
        waiting: &mut VecDeque<usize>,
        live: &mut Vec<Live>,
    ) -> Result<(), Error> {
        while live.len() < self.batch {
            let Some(request) = waiting.pop_front() else { break };
            let Some(mut cache) = self.caches.pop() else {
                waiting.push_front(request);
                break;
            };
            cache.truncate(0);
            let finish =
                if requests[request].max_new == 0 { Finish::Length } else { Finish::Cancelled };
            let completion = Completion { ids: Vec::new(), finish, first_token: None };
            let pending = match requests[request].max_new {
                0 => Vec::new(),
                _ => requests[request].prompt.clone(),
            };
            live.push(Live { request, cache, pending, at: 0, completion });
        }
        Ok(())
    }

    /// One pass: a token of each answering sequence, and as much of prompts as there are rows for.
    /// Returns (place in `live`, token drawn) of those whose prompt is now read.
    fn step(
        &mut self,
        requests: &[Request],
        live: &mut [Live],
        statistics: &mut Statistics,
    ) -> Result<Vec<(usize, u32)>, Error> {
        let mut rows = self.model.capacity().generated;
        let mut takes = vec![0; live.len()];
        // Who answers comes first, so that a long prompt never makes others wait.
        for answering in [true, false] {
            for (take, l) in takes.iter_mut().zip(live.iter()) {
                if (l.pending.len() - l.at == 1) == answering {
                    *take = (l.pending.len() - l.at).min(rows);
                    rows -= *take;
                }
            }
        }
        let mut chunks = Vec::with_capacity(live.len());
        let mut places = Vec::with_capacity(live.len());
        for (place, (l, take)) in live.iter_mut().zip(&takes).enumerate() {
            if *take > 0 {
                let tokens = &l.pending[l.at..l.at + take];
                chunks.push(Chunk { tokens, cache: &mut l.cache });
                places.push(place);
            }
        }
        if chunks.is_empty() {
            return Ok(Vec::new());
        }
        let logits = self.model.extend(&mut chunks, Wanted::Last)?;
        drop(chunks);
        statistics.steps += 1;
        let mut drawn = Vec::new();
        for (row, place) in places.into_iter().enumerate() {
            let l = &mut live[place];
            l.at += takes[place];
            let request = &requests[l.request];
            if l.completion.ids.is_empty() {
                statistics.prompt_tokens += takes[place] as u64;
            }
            if l.at == l.pending.len() {
                let values = self.model.device().read_f64(&logits.slice_rows(row..row + 1)?)?;
                let position = l.cache.len();
                let token = request.sampling.choose(&values, request.sequence, position as u64);
                let broken = Error::NotANumber { request: l.request, position };
                drawn.push((place, token.ok_or(broken)?));
            }
        }
        Ok(drawn)
    }

    /// Adds a drawn token to its sequence, or ends the sequence: then nothing is pending.
    fn take(
        &self,
        live: &mut Live,
        request: &Request,
        token: u32,
        elapsed: Duration,
        on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) {
        live.pending.clear();
        live.at = 0;
        live.completion.first_token.get_or_insert(elapsed);
        if request.stop.contains(&token) {
            live.completion.finish = Finish::Stop(token);
            return;
        }
        live.completion.ids.push(token);
        if on_token(live.request, token).is_break() {
            live.completion.finish = Finish::Cancelled;
        } else if live.completion.ids.len() >= request.max_new {
            live.completion.finish = Finish::Length;
        } else if live.cache.len() + 1 >= self.context() {
            live.completion.finish = Finish::Context;
        } else {
            live.pending.push(token);
        }
    }

    fn retire(&mut self, live: Live, done: &mut [Option<Completion>]) {
        done[live.request] = Some(live.completion);
        self.caches.push(live.cache);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_math::{DType, Device, Reference};
    use quipu_mesh::{Axes, Mesh, launch};
    use quipu_model::{Capacity, Config, MicroBatch, Pipeline, Sizes};
    use std::sync::Arc;

    const VOCABULARY: usize = 50;

    fn model(generated: usize) -> Model {
        divided(generated, Mesh::one(), 1)
    }

    /// The same model over the ranks of a mesh.
    fn divided(generated: usize, mesh: Mesh, chunks: usize) -> Model {
        let sizes = Sizes {
            vocab_size: VOCABULARY,
            hidden_size: 16,
            intermediate_size: 24,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            max_positions: 40,
            tied: false,
        };
        let device: Arc<dyn Device> = Arc::new(Reference::new());
        let capacity = Capacity {
            generated,
            tokens: 40,
            slots: 1,
            ..Capacity::generating(&*device, generated)
        };
        let config = Config::new(sizes).unwrap();
        let pipeline = Pipeline { chunks, ..Pipeline::default() };
        let mut model = Model::staged(device, mesh, config, capacity, &pipeline).unwrap();
        model.init(3).unwrap();
        // The initial weights are small: larger ones make logits that differ.
        let flat = model.weights().unwrap().clone();
        let values = model.device().read_f64(&flat).unwrap();
        let larger: Vec<f64> = values.iter().map(|v| v * 8.0).collect();
        model.device().write_floats(&flat, &larger).unwrap();
        model
    }

    fn requests(sampling: Sampling) -> Vec<Request> {
        (0..6_u32)
            .map(|n| Request {
                prompt: (0..=n * 2).map(|t| (t * 7 + n) % VOCABULARY as u32).collect(),
                max_new: 3 + n as usize,
                stop: vec![],
                sampling,
                sequence: u64::from(n),
            })
            .collect()
    }

    fn run(model: &mut Model, batch: usize, requests: &[Request]) -> Vec<Completion> {
        let mut engine = Engine::new(model, batch);
        let go = &mut |_: usize, _: u32| ControlFlow::Continue(());
        let (mut out, statistics) = engine.generate(requests, go, &|| false).unwrap();
        let new: usize = out.iter().map(|c| c.ids.len()).sum();
        assert!(statistics.new_tokens as usize >= new && (new == 0 || statistics.steps > 0));
        out.iter_mut().for_each(|c| c.first_token = None);
        out
    }

    #[test]
    fn company_and_chunks_do_not_change_an_answer() {
        for sampling in [Sampling::greedy(), Sampling { temperature: 0.8, top_p: 0.9, seed: 4 }] {
            let requests = requests(sampling);
            let alone: Vec<Completion> = requests
                .iter()
                .map(|r| run(&mut model(64), 1, std::slice::from_ref(r)).remove(0))
                .collect();
            for (batch, generated) in [(6, 64), (3, 4), (2, 2), (6, 7)] {
                assert_eq!(run(&mut model(generated), batch, &requests), alone, "batch {batch}");
            }
        }
    }

    /// Parts are added in another order: tokens are the same, logits nearly.
    #[test]
    fn a_divided_model_gives_the_answers_of_one_rank() {
        let requests = requests(Sampling { temperature: 0.8, top_p: 0.9, seed: 4 });
        let alone = run(&mut model(7), 3, &requests);
        for (mesh, chunks) in [
            ("tp=2", 1),
            ("tp=4", 1),
            ("pp=2", 1),
            ("pp=2", 2),
            ("pp=4", 1),
            ("tp=2,pp=2", 2),
            ("tp=2,cp=2,pp=2", 1),
        ] {
            let axes = Axes::parse(mesh).unwrap();
            let found = launch(axes, |ranks| {
                Ok::<_, Error>(run(&mut divided(7, ranks, chunks), 3, &requests))
            });
            for (rank, found) in found.unwrap().into_iter().enumerate() {
                assert_eq!(found, alone, "{mesh}, {chunks} chunks, rank {rank}");
            }
        }
    }

    #[test]
    fn the_cache_gives_the_bits_of_prefill() {
        let mut model = model(64);
        let request = &requests(Sampling::greedy())[4];
        let answer = run(&mut model, 1, std::slice::from_ref(request)).remove(0);
        let whole: Vec<u32> = [request.prompt.as_slice(), &answer.ids].concat();
        let logits_of = |model: &mut Model, cuts: &[usize]| {
            let mut cache = model.cache(40).unwrap();
            let (mut rows, mut from) = (Vec::new(), 0);
            for &to in cuts {
                let tokens = &whole[from..to];
                let mut chunks = [Chunk { tokens, cache: &mut cache }];
                let logits = model.extend(&mut chunks, Wanted::All).unwrap();
                rows.extend(model.device().read_f64(&logits).unwrap());
                from = to;
            }
            rows
        };
        let all_at_once = logits_of(&mut model, &[whole.len()]);
        let one_by_one: Vec<usize> = (1..=whole.len()).collect();
        assert!(logits_of(&mut model, &one_by_one) == all_at_once);
        assert!(logits_of(&mut model, &[3, 4, whole.len()]) == all_at_once);
        // And greedy decoding is the largest of those rows.
        for (at, id) in answer.ids.iter().enumerate() {
            let row = request.prompt.len() - 1 + at;
            let row = &all_at_once[row * VOCABULARY..(row + 1) * VOCABULARY];
            assert_eq!(Sampling::greedy().choose(row, 0, 0), Some(*id));
        }
    }

    #[test]
    fn the_training_forward_gives_the_same_logits() {
        let mut model = model(64);
        let tokens: Vec<u32> = (0..9).map(|t| t * 5 % VOCABULARY as u32).collect();
        let mut cache = model.cache(40).unwrap();
        let mut chunks = [Chunk { tokens: &tokens, cache: &mut cache }];
        let cached = model.extend(&mut chunks, Wanted::All).unwrap();
        let cached = model.device().read_f64(&cached).unwrap();
        let packed = quipu_model::Packed::of([tokens.as_slice()]);
        let batch: MicroBatch<'_> = packed.view();
        model.forward(0, &batch).unwrap();
        let trained = model.logits(0).unwrap();
        assert!(model.device().read_f64(&trained).unwrap() == cached);
    }

    #[test]
    fn stops_lengths_and_callers_end_answers() {
        let mut model = model(64);
        let mut request = requests(Sampling::greedy()).remove(3);
        let free = run(&mut model, 1, std::slice::from_ref(&request)).remove(0);
        assert_eq!((free.ids.len(), free.finish), (6, Finish::Length));
        request.stop = vec![free.ids[2]];
        let first = free.ids.iter().position(|id| *id == free.ids[2]).unwrap();
        let stopped = run(&mut model, 1, std::slice::from_ref(&request)).remove(0);
        assert_eq!(stopped.ids, free.ids[..first]);
        assert_eq!(stopped.finish, Finish::Stop(free.ids[2]));
        request.stop.clear();
        request.max_new = 1000;
        let full = run(&mut model, 1, std::slice::from_ref(&request)).remove(0);
        assert_eq!(full.finish, Finish::Context);
        assert_eq!(request.prompt.len() + full.ids.len(), 40);
        request.max_new = 0;
        let none = run(&mut model, 1, std::slice::from_ref(&request)).remove(0);
        assert_eq!((none.ids.len(), none.finish), (0, Finish::Length));
        let all = requests(Sampling::greedy());
        let mut engine = Engine::new(&mut model, 3);
        let mut heard = Vec::new();
        let hear = &mut |request: usize, token: u32| {
            heard.push((request, token));
            if request == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (out, _) = engine.generate(&all, hear, &|| false).unwrap();
        assert_eq!((out[5].ids.len(), out[5].finish), (1, Finish::Cancelled));
        for (at, completion) in out.iter().enumerate() {
            let of: Vec<u32> = heard.iter().filter(|h| h.0 == at).map(|h| h.1).collect();
            assert_eq!(of, completion.ids);
        }
        let go = &mut |_: usize, _: u32| ControlFlow::Continue(());
        let (out, _) = engine.generate(&all, go, &|| true).unwrap();
        assert!(out.iter().all(|c| c.finish == Finish::Cancelled));
    }

    /// Greedy decoding of the reference case: three prompts at once, tokens equal.
    #[test]
    fn golden_generation_is_exact() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let shared = std::env::var_os("QUIPU_SHARED").map(std::path::PathBuf::from);
        let folder = shared.unwrap_or_else(|| root.join("../../shared")).join("golden/generate");
        let Ok(bytes) = std::fs::read(folder.join("case.safetensors")) else {
            eprintln!("SKIPPED: golden_generation_is_exact: shared data absent");
            return;
        };
        let case = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tokens = |name: String| -> Option<Vec<u32>> {
            let data = case.tensor(&name).ok()?.data().to_vec();
            let word = |c: &[u8]| i64::from_le_bytes(c.try_into().unwrap()) as u32;
            Some(data.chunks_exact(8).map(word).collect())
        };
        let mut requests = Vec::new();
        let mut expected = Vec::new();
        while let Some(prompt) = tokens(format!("prompt.{}", requests.len())) {
            let output = tokens(format!("output.{}", requests.len())).unwrap();
            let max_new = output.len() - prompt.len();
            expected.push(output[prompt.len()..].to_vec());
            let (stop, sampling) = (vec![], Sampling::greedy());
            requests.push(Request { prompt, max_new, stop, sampling, sequence: 0 });
        }
        assert_eq!(requests.len(), 3);
        let device: Arc<dyn Device> = Arc::new(Reference::new());
        let capacity = Capacity::generating(&*device, 32);
        let config = Config::load(&folder).unwrap();
        let mut model = Model::new(device, Mesh::one(), config, capacity).unwrap();
        model.load(&folder).unwrap();
        let got: Vec<Vec<u32>> = run(&mut model, 3, &requests).into_iter().map(|c| c.ids).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn bad_requests_are_refused() {
        let mut model = model(8);
        let mut check = |change: &dyn Fn(&mut Request), says: &str| {
            let mut requests = requests(Sampling::greedy());
            change(&mut requests[2]);
            let go = &mut |_: usize, _: u32| ControlFlow::Continue(());
            let result = Engine::new(&mut model, 2).generate(&requests, go, &|| false);
            let error = result.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        check(&|r| r.prompt.clear(), "request 2: the prompt has no tokens");
        check(&|r| r.prompt = vec![1; 40], "a prompt of 40 tokens");
        check(&|r| r.prompt = vec![77], "77");
        check(&|r| r.sampling.temperature = -1.0, "temperature is -1");
        check(&|r| r.sampling.top_p = f64::NAN, "top_p is NaN");
        assert_eq!(model.precision().weights, DType::F64);
        let flat = model.weights().unwrap().clone();
        let elements = model.table().elements();
        model.device().write_floats(&flat, &vec![f64::NAN; elements]).unwrap();
        let go = &mut |_: usize, _: u32| ControlFlow::Continue(());
        let all = requests(Sampling::greedy());
        let error = Engine::new(&mut model, 2).generate(&all, go, &|| false).unwrap_err();
        assert!(error.to_string().contains("not numbers"), "{error}");
    }
}
