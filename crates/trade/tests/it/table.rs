//! The table of all decisions: every state against every input, for each role. The snapshot is `docs/trade-table.md`.

use trade::{
    BondFate, Command, Effect, Envelope, Event, Input, Leg, LegId, NodeReport, PartyKey, ReceiptStatus, Step, Trade,
};
use units::{Height, Msat, Now, PaymentHash, Sat, Unix};

use crate::story::{ARBITER, PAYEE, PAYER, Story, accept, bonded, cancel, dispute, refund, release, rule, ship};

const HEAD: &str = "# What is decided in which state

Rows are states, columns are inputs, a cell says what is recorded and, after =>, the state that follows. `code` is the refusal,
- is a duplicate or late input: nothing to record. *heard* takes the message, *say X* orders one, *order x* makes money move,
*n x* counts. The trade is bonded (both bonds, two tranches, arbiter_release, release on silence). Written by a test: do not edit.
";

/// The input for a state, and when it comes; none where the state has no such time.
type MakeInput = dyn Fn(&Trade, Now) -> Option<(Input, Now)>;

/// One column: a name and how the input is made for a state.
struct Column {
    name: &'static str,
    input: Box<MakeInput>,
}

fn command(name: &'static str, command: Command) -> Column {
    Column { name, input: Box::new(move |_, now| Some((Input::Command(command.clone()), now))) }
}

fn word(name: &'static str, envelope: Envelope) -> Column {
    Column { name, input: Box::new(move |_, now| Some((Input::Message(Box::new(envelope.clone())), now))) }
}

fn node(name: &'static str, report: NodeReport) -> Column {
    Column { name, input: Box::new(move |_, now| Some((Input::Node(report.clone()), now))) }
}

fn at(name: &'static str, pick: fn(&trade::Deadlines) -> Height) -> Column {
    Column {
        name,
        input: Box::new(move |trade, now| {
            let height = pick(&trade.deadlines()?);
            let secs = u64::from(height.0.saturating_sub(now.height.0)) * 600;
            Some((Input::Tick, Now { height, unix: Unix(now.unix.0 + secs) }))
        }),
    }
}

fn later(name: &'static str, hours: u64) -> Column {
    let secs = hours * 3600;
    Column { name, input: Box::new(move |_, now| Some((Input::Tick, Now { unix: Unix(now.unix.0 + secs), ..now }))) }
}

fn times() -> Vec<Column> {
    vec![
        later("3 hours later", 3),
        later("3 days later", 72),
        at("D_warn", |d| d.warn),
        at("D_rule", |d| d.rule),
        at("D_hard", |d| d.hard),
        at("H_exp", |d| d.expiry),
    ]
}

fn reports(issued: PaymentHash, amount: u64, paid: PaymentHash, secret: units::Preimage) -> Vec<Column> {
    let reason = String::new();
    vec![
        node("invoice issued", NodeReport::InvoiceIssued { hash: issued, invoice: "lnstory".to_owned() }),
        node("invoice refused", NodeReport::InvoiceRefused { hash: issued, reason: reason.clone() }),
        node("held", NodeReport::Held { hash: issued, amount: Msat(amount), expiry: Height(1720) }),
        node("settled", NodeReport::Settled { hash: issued }),
        node("canceled", NodeReport::Canceled { hash: issued }),
        node("payment in flight", NodeReport::PaymentInFlight { hash: paid }),
        node("payment taken", NodeReport::PaymentTaken { hash: paid, preimage: secret }),
        node("payment returned", NodeReport::PaymentReturned { hash: paid, reason }),
    ]
}

// ---- words ------------------------------------------------------------------------------------------------------

fn counter() -> Command {
    Command::Counter { amount: Sat(21_000) }
}

fn relock(story: &Story) -> Command {
    Command::Relock { payment_hashes: story.price_hashes(1) }
}

fn relocking() -> Story {
    let mut story = Story::shipped(bonded());
    let command = relock(&story);
    story.want(PAYER, command);
    let serve = story.serve_command(1);
    story.want(ARBITER, serve);
    story
}

fn after(mut story: Story, who: usize, command: Command) -> Story {
    story.want(who, command);
    story
}

/// A message that somebody hears in one of the stories.
fn heard(story: &Story, to: usize, from: usize, step: Step) -> Envelope {
    story.envelope(to, from, step)
}

fn from_stranger(mut envelope: Envelope) -> Envelope {
    envelope.author = PartyKey([9; 32]);
    envelope.id.0[0] ^= 1;
    envelope
}

fn second_version(mut envelope: Envelope) -> Envelope {
    envelope.id.0[0] ^= 1;
    envelope
}

fn ruled() -> Story {
    after(Story::disputed(bonded()), ARBITER, rule(1, BondFate::Forfeit, BondFate::Return))
}

fn rated() -> Story {
    let mut story = after(Story::shipped(bonded()), PAYER, release());
    story.want(PAYER, Command::Rate { rating: 5, comment: None });
    story.want(PAYEE, Command::Rate { rating: 5, comment: None });
    story
}

fn stolen(who: usize, leg: LegId, maker: usize) -> Story {
    let mut story = Story::shipped(bonded());
    let secret = story.secret(maker, leg);
    story.steal(who, secret);
    story
}

fn said_to_payer() -> Vec<Column> {
    let shipped = Story::shipped(bonded());
    let shipment = heard(&shipped, PAYER, PAYEE, Step::Shipment(0));
    let mut bad = heard(&shipped, PAYER, PAYEE, Step::Acceptance(0));
    bad.invoices[0].amount = Some(Msat(1));
    let handover = Step::Handover(LegId::payee_bond(0));
    vec![
        word("Appointment", heard(&shipped, PAYER, ARBITER, Step::Appointment(0))),
        word("Counter", heard(&after(Story::bid(bonded()), PAYEE, counter()), PAYER, PAYEE, Step::Counter(0))),
        word("Acceptance", heard(&shipped, PAYER, PAYEE, Step::Acceptance(0))),
        word("Acceptance, wrong invoice", bad),
        word("Shipment", shipment.clone()),
        word("another Shipment", second_version(shipment.clone())),
        word("Shipment by a stranger", from_stranger(shipment)),
        word("Dispute", heard(&after(Story::shipped(bonded()), PAYEE, dispute()), PAYER, PAYEE, Step::Dispute)),
        word("Refund", heard(&after(Story::shipped(bonded()), PAYEE, refund()), PAYER, PAYEE, Step::Refund)),
        word(
            "MutualCancel",
            heard(&after(Story::shipped(bonded()), PAYEE, cancel()), PAYER, PAYEE, Step::MutualCancel),
        ),
        word("Ruling", heard(&ruled(), PAYER, ARBITER, Step::Ruling)),
        word("Handover", heard(&stolen(PAYEE, LegId::payee_bond(0), ARBITER), PAYER, PAYEE, handover)),
        word("Rating", heard(&rated(), PAYER, PAYEE, Step::Rating)),
        word("Appointment, re-lock", heard(&relocking(), PAYER, ARBITER, Step::Appointment(1))),
        word("Acceptance, re-lock", heard(&after(relocking(), PAYEE, accept()), PAYER, PAYEE, Step::Acceptance(1))),
    ]
}

fn said_to_payee() -> Vec<Column> {
    let rated = rated();
    let hear = |step| heard(&rated, PAYEE, PAYER, step);
    let mut bad = hear(Step::PayeeBondInvoice(0));
    bad.invoices[0].amount = Some(Msat(1));
    let complaint = Command::Complain { status: ReceiptStatus::Damaged, reason: "bent".to_owned() };
    let mut haggling = after(Story::bid(bonded()), PAYEE, counter());
    haggling.want(PAYER, counter());
    let handover = Step::Handover(LegId::price(0, 0));
    vec![
        word("Bid", hear(Step::Bid(0))),
        word("Appointment", heard(&rated, PAYEE, ARBITER, Step::Appointment(0))),
        word("Counter", heard(&haggling, PAYEE, PAYER, Step::Counter(1))),
        word("PayeeBondInvoice", hear(Step::PayeeBondInvoice(0))),
        word("PayeeBondInvoice, wrong", bad),
        word("PaymentConfirmation", hear(Step::PaymentConfirmation(0))),
        word("Receipt", hear(Step::Receipt)),
        word("Receipt by a stranger", from_stranger(hear(Step::Receipt))),
        word(
            "Receipt that complains",
            heard(&after(Story::shipped(bonded()), PAYER, complaint), PAYEE, PAYER, Step::Dispute),
        ),
        word("Dispute", heard(&Story::disputed(bonded()), PAYEE, PAYER, Step::Dispute)),
        word(
            "MutualCancel",
            heard(&after(Story::shipped(bonded()), PAYER, cancel()), PAYEE, PAYER, Step::MutualCancel),
        ),
        word("Ruling", heard(&ruled(), PAYEE, ARBITER, Step::Ruling)),
        word("Handover", heard(&stolen(PAYER, LegId::price(0, 0), PAYER), PAYEE, PAYER, handover)),
        word("Rating", hear(Step::Rating)),
        word("Bid, re-lock", heard(&relocking(), PAYEE, PAYER, Step::Bid(1))),
    ]
}

fn said_to_arbiter() -> Vec<Column> {
    let rated = rated();
    let hear = |step| heard(&rated, ARBITER, PAYER, step);
    vec![
        word("AppointmentRequest", hear(Step::AppointmentRequest(0))),
        word("PaymentConfirmation", hear(Step::PaymentConfirmation(0))),
        word("Shipment", heard(&rated, ARBITER, PAYEE, Step::Shipment(0))),
        word("Receipt", hear(Step::Receipt)),
        word("Receipt by a stranger", from_stranger(hear(Step::Receipt))),
        word("Dispute", heard(&Story::disputed(bonded()), ARBITER, PAYER, Step::Dispute)),
        word("Refund", heard(&after(Story::shipped(bonded()), PAYEE, refund()), ARBITER, PAYEE, Step::Refund)),
        word(
            "MutualCancel",
            heard(&after(Story::shipped(bonded()), PAYEE, cancel()), ARBITER, PAYEE, Step::MutualCancel),
        ),
        word("AppointmentRequest, re-lock", heard(&relocking(), ARBITER, PAYER, Step::AppointmentRequest(1))),
        word("Bid", heard(&rated, PAYEE, PAYER, Step::Bid(0))),
    ]
}

// ---- states -----------------------------------------------------------------------------------------------------

fn blocked(mut story: Story, who: usize, which: fn(&Effect) -> bool) -> Story {
    story.blocked.push((who, which));
    story
}

fn payer_states() -> Vec<(&'static str, Story)> {
    let mut asked = Story::listed(bonded());
    asked.open();
    let pays_price = |e: &Effect| matches!(e, Effect::PayInvoice { leg, .. } if leg.leg == Leg::Price);
    let mut released = Story::shipped(bonded());
    released.deaf.push(PAYEE);
    let mut ruled = Story::disputed(bonded());
    ruled.deaf.push(PAYEE);
    let cancels = |e: &Effect| matches!(e, Effect::Cancel { .. });
    vec![
        ("Appointing", asked),
        ("Bid", Story::bid(bonded())),
        ("Countered", after(Story::bid(bonded()), PAYEE, counter())),
        ("Locking", after(blocked(Story::bid(bonded()), PAYER, pays_price), PAYEE, accept())),
        ("Held", Story::held(bonded())),
        ("Shipped", Story::shipped(bonded())),
        ("Shipped, re-locking", relocking()),
        ("Disputed", Story::disputed(bonded())),
        ("Released", after(released, PAYER, release())),
        ("Ruled", after(ruled, ARBITER, rule(1, BondFate::Forfeit, BondFate::Return))),
        ("Winding", after(blocked(Story::shipped(bonded()), PAYEE, cancels), PAYEE, refund())),
        ("Closed", rated_by_nobody()),
    ]
}

fn rated_by_nobody() -> Story {
    after(Story::shipped(bonded()), PAYER, release())
}

fn payee_states() -> Vec<(&'static str, Story)> {
    let mut asked = Story::listed(bonded());
    asked.open();
    asked.deaf.push(PAYEE);
    asked.serve();
    let bid = heard(&asked, PAYEE, PAYER, Step::Bid(0));
    asked.hear(PAYEE, bid).expect("a bid");
    let pays_price = |e: &Effect| matches!(e, Effect::PayInvoice { leg, .. } if leg.leg == Leg::Price);
    let creates = |e: &Effect| matches!(e, Effect::CreateHoldInvoice { .. });
    let settles = |e: &Effect| matches!(e, Effect::Settle { .. });
    let cancels = |e: &Effect| matches!(e, Effect::Cancel { .. });
    vec![
        ("Bid, not appointed", asked),
        ("Bid", Story::bid(bonded())),
        ("Countered", after(Story::bid(bonded()), PAYEE, counter())),
        ("Accepted", after(blocked(Story::bid(bonded()), PAYEE, creates), PAYEE, accept())),
        ("Locking", after(blocked(Story::bid(bonded()), PAYER, pays_price), PAYEE, accept())),
        ("Held", Story::held(bonded())),
        ("Shipped", Story::shipped(bonded())),
        ("Shipped, re-locking", relocking()),
        ("Disputed", Story::disputed(bonded())),
        ("Released", after(blocked(Story::shipped(bonded()), PAYEE, settles), PAYER, release())),
        (
            "Ruled",
            after(
                blocked(Story::disputed(bonded()), PAYEE, settles),
                ARBITER,
                rule(1, BondFate::Forfeit, BondFate::Return),
            ),
        ),
        ("Winding", after(blocked(Story::shipped(bonded()), PAYEE, cancels), PAYEE, refund())),
        ("Closed", rated_by_nobody()),
    ]
}

fn arbiter_states() -> Vec<(&'static str, Story)> {
    let mut asked = Story::listed(bonded());
    asked.open();
    let sends = |e: &Effect| matches!(e, Effect::Send(_));
    let ruling = rule(1, BondFate::Forfeit, BondFate::Return);
    vec![
        ("Asked", asked),
        ("Serving", Story::bid(bonded())),
        ("Held", Story::held(bonded())),
        ("Shipped", Story::shipped(bonded())),
        ("Shipped, re-locking", relocking()),
        ("Disputed", Story::disputed(bonded())),
        ("Ruled", after(blocked(Story::disputed(bonded()), ARBITER, sends), ARBITER, ruling)),
        ("Closed", after(Story::shipped(bonded()), PAYEE, refund())),
    ]
}

// ---- writing ----------------------------------------------------------------------------------------------------

fn label(event: &Event) -> String {
    match event {
        Event::MessageTaken { .. } => "heard".to_owned(),
        Event::MessageOrdered(outgoing) => format!("say {}", step_name(outgoing.step)),
        Event::InvoiceOrdered { .. } => "order invoice".to_owned(),
        Event::PaymentOrdered { .. } => "order payment".to_owned(),
        Event::SettleOrdered { .. } => "order settle".to_owned(),
        Event::CancelOrdered { .. } => "order cancel".to_owned(),
        Event::AcceptOrdered { .. } => "order acceptance".to_owned(),
        Event::Unwound { why } => format!("unwind: {why:?}"),
        Event::NoticeRaised { notice } => format!("*{}*", debug_name(&format!("{notice:?}"))),
        Event::Closed { outcome } => format!("closed: {}", debug_name(&format!("{outcome:?}"))),
        other => words(&debug_name(&format!("{other:?}"))),
    }
}

fn debug_name(text: &str) -> String {
    text.split([' ', '(', '{']).next().unwrap_or("").to_owned()
}

fn step_name(step: Step) -> String {
    debug_name(&format!("{step:?}"))
}

/// `LegHeld` is written as `leg held`.
fn words(camel: &str) -> String {
    let mut out = String::new();
    for (i, c) in camel.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            out.push(' ');
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn cell(trade: &Trade, input: &Input, now: Now) -> String {
    let decision = trade.step(input, now);
    let mut labels: Vec<(String, u32)> = Vec::new();
    let mut next = trade.clone();
    for event in &decision.events {
        next = next.apply(event).expect("a decision fits");
        let label = label(event);
        match labels.last_mut() {
            Some((last, count)) if *last == label => *count += 1,
            _ => labels.push((label, 1)),
        }
    }
    let mut parts: Vec<String> =
        labels.into_iter().map(|(label, n)| if n > 1 { format!("{n} x {label}") } else { label }).collect();
    if let Some(refusal) = decision.refused {
        parts.push(format!("`{}`", refusal.rule));
    }
    let mut text = if parts.is_empty() { "-".to_owned() } else { parts.join(", ") };
    if next.state_name() != trade.state_name() {
        text.push_str(&format!(" => **{}**", next.state_name()));
    }
    text
}

fn section(out: &mut String, title: &str, who: usize, states: &[(&'static str, Story)], columns: &[Column]) {
    out.push_str(&format!("\n### {title}\n"));
    for columns in columns.chunks(5) {
        let names: Vec<&str> = columns.iter().map(|c| c.name).collect();
        out.push_str(&format!("\n| state | {} |\n|{}\n", names.join(" | "), "---|".repeat(names.len() + 1)));
        for (name, story) in states {
            let trade = story.trade(who);
            assert!(name.starts_with(trade.state_name()), "{name} is in {}", trade.state_name());
            let cells: Vec<String> = columns
                .iter()
                .map(|column| match (column.input)(trade, story.now) {
                    Some((input, now)) => cell(trade, &input, now),
                    None => "no lock".to_owned(),
                })
                .collect();
            out.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
        }
    }
}

fn payer_commands(story: &Story) -> Vec<Column> {
    let complain = Command::Complain { status: ReceiptStatus::Damaged, reason: "bent".to_owned() };
    vec![
        command("Counter", counter()),
        command("Withdraw", Command::Withdraw { reason: String::new() }),
        command("Pay", Command::Pay),
        command("Release", release()),
        command("Complain", complain),
        command("Dispute", dispute()),
        command("Cancel", cancel()),
        command("Relock", relock(story)),
        command("Rate", Command::Rate { rating: 5, comment: None }),
        command("Rate the arbiter", Command::RateArbiter { rating: 5, comment: None }),
        command("Ship (not ours)", ship()),
    ]
}

fn payee_commands() -> Vec<Column> {
    vec![
        command("Accept", accept()),
        command("Counter", counter()),
        command("Withdraw", Command::Withdraw { reason: String::new() }),
        command("Ship", ship()),
        command("Dispute", dispute()),
        command("Refund", refund()),
        command("Cancel", cancel()),
        command("Rate", Command::Rate { rating: 5, comment: None }),
        command("Rate the arbiter", Command::RateArbiter { rating: 5, comment: None }),
        command("Release (not ours)", release()),
    ]
}

fn arbiter_commands(story: &Story) -> Vec<Column> {
    vec![
        command("Serve", story.serve_command(0)),
        command("Serve, re-lock", story.serve_command(1)),
        command("Rule", rule(1, BondFate::Forfeit, BondFate::Return)),
        command("Withdraw", Command::Withdraw { reason: String::new() }),
        command("Refund (not ours)", refund()),
    ]
}

#[test]
fn every_state_has_an_answer_to_every_input() {
    let story = Story::shipped(bonded());
    let price = story.secret(PAYER, LegId::price(0, 0));
    let bond = story.secret(ARBITER, LegId::payee_bond(0));
    let mut out = HEAD.to_owned();

    out.push_str("\n## Payer\n");
    let states = payer_states();
    section(&mut out, "Commands", PAYER, &states, &payer_commands(&story));
    section(&mut out, "Messages", PAYER, &states, &said_to_payer());
    let node = reports(bond.hash(), 2_000_000, price.hash(), price.clone());
    section(
        &mut out,
        "Its node, about the payee's bond (held here) and the price (paid from here)",
        PAYER,
        &states,
        &node,
    );
    section(&mut out, "Time", PAYER, &states, &times());

    out.push_str("\n## Payee\n");
    let states = payee_states();
    section(&mut out, "Commands", PAYEE, &states, &payee_commands());
    section(&mut out, "Messages", PAYEE, &states, &said_to_payee());
    let node = reports(price.hash(), 10_000_000, bond.hash(), bond);
    section(&mut out, "Its node, about the price (held here) and its bond (paid from here)", PAYEE, &states, &node);
    section(&mut out, "Time", PAYEE, &states, &times());

    out.push_str("\n## Arbiter\n");
    let states = arbiter_states();
    section(&mut out, "Commands", ARBITER, &states, &arbiter_commands(&story));
    section(&mut out, "Messages", ARBITER, &states, &said_to_arbiter());
    section(&mut out, "Time", ARBITER, &states, &times());

    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("trade-table", out);
    });
}
