use agentbus::{Context, Routes, Topic};

const SAID: Topic<String> = Topic::new("text.said");

struct Scribe;

impl Scribe {
    async fn said(&self, text: String, _: &Context) {
        println!("{text}");
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on(SAID, Scribe::said);
}
