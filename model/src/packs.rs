//! The weights once more, in the form in which the device's products read them. A copy belongs to its
//! weight and is renewed when the weight has changed; how it looks only the device knows.

use crate::Error;
use crate::parameters::{LayerViews, Parameters};
use quipu_math::op::{Layout, Pack};
use quipu_math::{DType, Device, View};
use std::sync::atomic::{AtomicU64, Ordering};

/// A weight packed for `x · Wᵀ` and, where there are gradients, for `dy · W`; none where the device
/// has no use for it.
#[derive(Clone, Debug)]
pub(crate) struct Both {
    pub forward: Option<View>,
    pub backward: Option<View>,
}

/// The matrices of one layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerPacks {
    pub qkv: Both,
    pub output: Both,
    pub gate_up: Both,
    pub down: Both,
}

impl LayerPacks {
    /// In the order of [`LayerViews::matrices`].
    fn matrices(&self) -> [&Both; 4] {
        [&self.qkv, &self.output, &self.gate_up, &self.down]
    }
}

/// All matrices of a model.
#[derive(Debug)]
pub(crate) struct Packs {
    pub layers: Vec<LayerPacks>,
    pub head: Both,
    /// None where nothing is packed.
    pub bytes: usize,
    /// Of the weights, when they were packed; counted from one, zero before.
    version: AtomicU64,
}

impl Packs {
    /// For a model that reads its weights where they lie: products pack what they need as they go.
    pub fn none(layers: usize) -> Packs {
        let none = Both { forward: None, backward: None };
        let [qkv, output, gate_up, down] = [(); 4].map(|()| none.clone());
        let layers = vec![LayerPacks { qkv, output, gate_up, down }; layers];
        Packs { layers, head: none, bytes: 0, version: AtomicU64::new(0) }
    }

    pub fn allocate(
        device: &dyn Device,
        weights: &Parameters,
        gradients: bool,
    ) -> Result<Packs, Error> {
        let mut bytes = 0;
        let mut pack = |weight: &View| {
            let mut one = |layout| -> Result<Option<View>, Error> {
                let elements = device.packed(layout, weight.dtype(), weight.rows(), weight.cols());
                if elements == 0 || (layout == Layout::NN && !gradients) {
                    return Ok(None);
                }
                let view = device.matrix(DType::U32, 1, elements)?;
                bytes += view.bytes();
                Ok(Some(view))
            };
            Ok::<_, Error>(Both { forward: one(Layout::NT)?, backward: one(Layout::NN)? })
        };
        let mut layer = |w: &LayerViews| {
            let [qkv, output, gate_up, down] = w.matrices()?.map(&mut pack);
            let (qkv, output, gate_up, down) = (qkv?, output?, gate_up?, down?);
            Ok::<_, Error>(LayerPacks { qkv, output, gate_up, down })
        };
        let layers = weights.layers.iter().map(&mut layer).collect::<Result<_, _>>()?;
        let none = Both { forward: None, backward: None };
        let head = weights.head.as_ref().map_or(Ok(none), pack)?;
        Ok(Packs { layers, head, bytes, version: AtomicU64::new(0) })
    }

    /// Packs again what has changed.
    pub fn renew(&self, device: &dyn Device, weights: &Parameters) -> Result<(), Error> {
        if self.bytes == 0 {
            return Ok(());
        }
        let now = weights.flat()?.buffer().version() + 1;
        if self.version.load(Ordering::Acquire) == now {
            return Ok(());
        }
        for (w, p) in weights.layers.iter().zip(&self.layers) {
            for (weight, both) in w.matrices()?.into_iter().zip(p.matrices()) {
                pack(device, weight, both)?;
            }
        }
        if let Some(head) = &weights.head {
            pack(device, head, &self.head)?;
        }
        self.version.store(now, Ordering::Release);
        Ok(())
    }
}

fn pack(device: &dyn Device, weight: &View, both: &Both) -> Result<(), Error> {
    for (layout, out) in [(Layout::NT, &both.forward), (Layout::NN, &both.backward)] {
        if let Some(out) = out {
            device.execute(Pack { x: weight.clone(), layout, out: out.clone() })?;
        }
    }
    Ok(())
}
