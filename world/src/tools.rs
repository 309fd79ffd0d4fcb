//! Tool questions of the examination: two tools are described, a question asks for what one of
//! them knows, and right is the call of that tool with the arguments that the question names, in
//! the JSON form that Llama 3 models are taught: `{"name": …, "parameters": {…}}`.
//!
//! NOT the tools: nothing is run, the call is compared. The wording of the context is that of Llama
//! 3.1's model card, shortened. No dialogue of the world has a tool in it.

use crate::names::passing;
use crate::random::Draw;
use serde_json::{Map, Value, json};

/// What an argument is.
#[derive(Clone, Copy)]
enum Argument {
    Town,
    Person,
    Day,
    Year,
    Number,
}

/// A tool: its name, what it does, its parameters, and questions with `{parameter}` in them.
struct Tool {
    name: &'static str,
    does: &'static str,
    parameters: &'static [(&'static str, Argument)],
    questions: &'static [&'static str],
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "weather",
        does: "The weather in a town.",
        parameters: &[("town", Argument::Town)],
        questions: &["What is the weather in {town}?", "Does it rain in {town} now?"],
    },
    Tool {
        name: "ferry",
        does: "The next ferry from one town to another.",
        parameters: &[("from", Argument::Town), ("to", Argument::Town)],
        questions: &[
            "When does the next ferry go from {from} to {to}?",
            "I want to go from {from} to {to} by ferry.",
        ],
    },
    Tool {
        name: "calendar",
        does: "Whether a person is free on a day.",
        parameters: &[("person", Argument::Person), ("day", Argument::Day)],
        questions: &["Is {person} free on {day}?", "Can I meet {person} on {day}?"],
    },
    Tool {
        name: "years",
        does: "The events of a year.",
        parameters: &[("year", Argument::Year)],
        questions: &["What happened in {year}?", "Which events were there in {year}?"],
    },
    Tool {
        name: "exchange",
        does: "How many crowns an amount of silver is worth.",
        parameters: &[("ounces", Argument::Number)],
        questions: &[
            "How many crowns are {ounces} ounces of silver worth?",
            "What do I get for {ounces} ounces of silver?",
        ],
    },
];

const DAYS: &[&str] =
    &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A tool question: what stands before it, the question, the call that is right.
pub(crate) struct Task {
    pub(crate) context: String,
    pub(crate) question: String,
    pub(crate) call: String,
}

/// A question about one of two tools, on these towns.
pub(crate) fn task(towns: &[&str], draw: &mut Draw) -> Task {
    let asked = draw.below(TOOLS.len());
    let other = (asked + 1 + draw.below(TOOLS.len() - 1)) % TOOLS.len();
    let tool = &TOOLS[asked];
    let mut question = draw.pick(tool.questions).to_owned();
    let mut parameters = Map::new();
    for (name, argument) in tool.parameters {
        let mut value = draw_value(*argument, towns, draw);
        // Nobody takes a ferry to where he is.
        while parameters.values().any(|v| *v == value) {
            value = draw_value(*argument, towns, draw);
        }
        let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        question = question.replace(&format!("{{{name}}}"), &said);
        parameters.insert((*name).to_owned(), value);
    }
    let shown = if draw.chance(0.5) { [asked, other] } else { [other, asked] };
    let list: Vec<String> = shown.iter().map(|t| described(&TOOLS[*t])).collect();
    let context = format!(
        "Answer with a call of one of these functions, as {{\"name\": its name, \"parameters\": \
         its arguments}}.\n{}",
        list.join("\n")
    );
    let call = json!({ "name": tool.name, "parameters": parameters }).to_string();
    Task { context, question, call }
}

fn described(tool: &Tool) -> String {
    let kind = |argument: &Argument| match argument {
        Argument::Year | Argument::Number => "integer",
        Argument::Town | Argument::Person | Argument::Day => "string",
    };
    let parameters: Map<String, Value> =
        tool.parameters.iter().map(|(name, a)| ((*name).to_owned(), json!(kind(a)))).collect();
    json!({ "name": tool.name, "description": tool.does, "parameters": parameters }).to_string()
}

fn draw_value(argument: Argument, towns: &[&str], draw: &mut Draw) -> Value {
    match argument {
        Argument::Town if towns.len() > 1 => json!(towns[draw.below(towns.len())]),
        Argument::Town | Argument::Person => json!(passing(draw)),
        Argument::Day => json!(draw.pick(DAYS)),
        Argument::Year => json!(draw.between(1700, 2025)),
        Argument::Number => json!(draw.between(2, 99)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_names_a_described_tool_and_what_the_question_says() {
        let towns = ["Timbon", "Kirdo", "Laldow"];
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..200 {
            let task = task(&towns, &mut Draw::keyed(1, "tools", number));
            let call: Value = serde_json::from_str(&task.call).unwrap();
            let name = call["name"].as_str().unwrap();
            let described = task.context.lines().skip(1).map(|l| {
                let tool: Value = serde_json::from_str(l).unwrap();
                (tool["name"].as_str().unwrap().to_owned(), tool["parameters"].clone())
            });
            let described: Vec<_> = described.collect();
            assert_eq!(described.len(), 2);
            let (_, known) = described.iter().find(|(n, _)| n == name).unwrap();
            let parameters = call["parameters"].as_object().unwrap();
            assert!(parameters.keys().eq(known.as_object().unwrap().keys()), "{}", task.call);
            for value in parameters.values() {
                let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                assert!(task.question.contains(&said), "{} lacks {said}", task.question);
            }
            assert!(!task.question.contains('{'), "{}", task.question);
            seen.insert(name.to_owned());
        }
        assert_eq!(seen.len(), TOOLS.len());
    }
}
