//! The special tokens of Llama 3, in the order of its released tokenizer (paper sheet, section 4),
//! with as many reserved ones behind them as the vocabulary is to have. Not here: how they frame a
//! dialogue (`chat`).

/// Opens every document and every dialogue.
pub const BEGIN_OF_TEXT: &str = "<|begin_of_text|>";
/// Closes every document of pre-training.
pub const END_OF_TEXT: &str = "<|end_of_text|>";
/// Fills rows up in fine-tuning.
pub const FINETUNE_RIGHT_PAD: &str = "<|finetune_right_pad_id|>";
/// Separates steps of a chain of reasoning.
pub const STEP: &str = "<|step_id|>";
/// Opens the header of a message.
pub const START_HEADER: &str = "<|start_header_id|>";
/// Closes the header of a message.
pub const END_HEADER: &str = "<|end_header_id|>";
/// Ends a message whose sender goes on after a tool's reply.
pub const END_OF_MESSAGE: &str = "<|eom_id|>";
/// Ends a turn.
pub const END_OF_TURN: &str = "<|eot_id|>";
/// Opens code that a tool is to run.
pub const PYTHON_TAG: &str = "<|python_tag|>";

/// The tokens that have a meaning or a fixed place; fewer make no Llama 3 tokenizer.
pub const FIXED: usize = 11;
/// As many special tokens as Llama 3 has.
pub const LLAMA3: usize = 256;

/// The texts of `count` special tokens in order of id (`count` at least [`FIXED`]; fewer are
/// given as [`FIXED`]).
#[must_use]
pub fn names(count: usize) -> Vec<String> {
    let reserved = |n: usize| format!("<|reserved_special_token_{n}|>");
    let mut names = vec![
        BEGIN_OF_TEXT.to_owned(),
        END_OF_TEXT.to_owned(),
        reserved(0),
        reserved(1),
        FINETUNE_RIGHT_PAD.to_owned(),
        STEP.to_owned(),
        START_HEADER.to_owned(),
        END_HEADER.to_owned(),
        END_OF_MESSAGE.to_owned(),
        END_OF_TURN.to_owned(),
        PYTHON_TAG.to_owned(),
    ];
    names.extend((FIXED..count).map(|i| reserved(i - FIXED + 2)));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_llama3s() {
        let names = names(LLAMA3);
        assert_eq!(names.len(), 256);
        let at = |i: usize| names[i].as_str();
        assert_eq!((at(0), at(1)), (BEGIN_OF_TEXT, END_OF_TEXT));
        assert_eq!((at(4), at(5)), (FINETUNE_RIGHT_PAD, STEP));
        assert_eq!((at(6), at(7)), (START_HEADER, END_HEADER));
        assert_eq!((at(8), at(9), at(10)), (END_OF_MESSAGE, END_OF_TURN, PYTHON_TAG));
        assert_eq!(at(11), "<|reserved_special_token_2|>");
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), 256);
    }
}
