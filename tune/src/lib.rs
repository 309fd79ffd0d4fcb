//! post-training: dialogues, SFT, DPO
