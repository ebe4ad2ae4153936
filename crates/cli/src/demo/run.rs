//! The story, from the first server to the verdict.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use longlived_client::BackoffOptions;
use longlived_client::fleet::{Fleet, FleetConfig, Verdict};
use tokio::time::Instant;

use super::Args;
use super::board::Board;
use super::door::Door;
use super::history::History;
use super::page::Page;
use super::server::Server;
use super::stage::{Stage, Trouble};
use super::text::Text;
use crate::disk_args::may_be_a_directory;
use crate::show::{self, Tone};
use crate::signals::{self, StopSignals};

const CLIENTS: u32 = 10;
const TOPIC: &str = "demo.lines";
/// What the subscribers follow.
const FOLLOWED: &[&str] = &[TOPIC, "inbox.*"];
/// How long the server stays dead: long enough that every client tries in vain at least once.
const OUTAGE: Duration = Duration::from_secs(2);
/// The steps after the story take at most this part of the story's time.
const LEAVE_PART: u32 = 8;
/// Lines sent and not yet acknowledged.
const IN_FLIGHT: usize = 64;
/// The library's numbers, but for the longest wait: 120 s is longer than a demo may take.
const BACKOFF: BackoffOptions = BackoffOptions {
    initial: Duration::from_secs(1),
    multiplier: 1.75,
    max: Duration::from_secs(2),
};

/// What is the same from the first server to the last.
struct Setting {
    text: Text,
    history: History,
    door: Door,
}

impl Setting {
    /// To be called when no server runs any more.
    fn remove(self) -> anyhow::Result<()> {
        let removed = self.history.remove();
        self.door.remove()?;
        removed
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Caught before there is anything that must not be left behind.
    let signals = StopSignals::new()?;
    if let Some(dir) = &args.data_dir {
        may_be_a_directory(dir)?;
    }
    let history = History::of(&args)?;
    let text = args.file.unwrap_or_else(Text::built_in);
    let setting = Setting {
        text: if args.tls { text.unhurried() } else { text },
        history,
        door: Door::new(args.tls)?,
    };
    let played = play(&setting, signals, args.give_up_after).await;
    let removed = setting.remove();
    let code = played?;
    removed?;
    Ok(code)
}

/// The whole of it; no server runs when this returns.
async fn play(
    setting: &Setting,
    signals: StopSignals,
    give_up_after: Duration,
) -> anyhow::Result<ExitCode> {
    let page = Page::new(CLIENTS, setting.text.lines.len());
    let mut stage = open(page, signals, setting, give_up_after).await?;
    let told = story(&mut stage, setting).await;
    // Not a drain: nobody needs it any more. Seen through, so that no process is left behind.
    if let Some(server) = stage.server.take() {
        server.kill().await?;
    }
    match told {
        Ok(told) => end(stage, told, setting).await,
        Err(Trouble::Interrupted(number)) => Ok(signals::ended_by(number)),
        Err(Trouble::Failed(error)) => Err(error),
        Err(Trouble::Waited(what)) => anyhow::bail!("gave up waiting for {what}"),
    }
}

/// All steps up to the verdict; false when something was waited for in vain.
async fn story(stage: &mut Stage, setting: &Setting) -> Result<bool, Trouble> {
    let told = match tell(stage, setting).await {
        Ok(()) => true,
        Err(Trouble::Waited(what)) => {
            let waited = format!("gave up waiting for {what}");
            stage.page.event("demo", Tone::Bad, &waited)?;
            false
        }
        Err(trouble) => return Err(trouble),
    };
    stage.leave().await?;
    Ok(told)
}

/// The first two steps: a server, and its subscribers.
async fn open(
    mut page: Page,
    signals: StopSignals,
    setting: &Setting,
    give_up_after: Duration,
) -> anyhow::Result<Stage> {
    let Setting {
        text,
        history,
        door,
    } = setting;
    let began = Instant::now();
    page.title(door.title())?;
    page.remark("Clients back off as always (a random wait of up to 1 s, then 1.6 times as much, and so on),")?;
    page.remark(
        "but here no wait is longer than 2 s instead of 120 s, so that this ends within 30 s.",
    )?;

    page.step("A server starts")?;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::start(listen, door, history.dir()).await?;
    page.event("server", Tone::Plain, &server.command_line())?;
    page.remark(&format!(
        "It is process {}. {}",
        server.pid,
        history.at_start()
    ))?;
    for remark in door.at_start() {
        page.remark(&remark)?;
    }

    page.step(&format!(
        "Ten clients subscribe, each to its inbox and to {TOPIC}"
    ))?;
    let client = door
        .subscribers(server.address, FOLLOWED)?
        .connections(CLIENTS as usize)
        .backoff(BACKOFF)
        .build()?;
    let config = FleetConfig {
        clients: CLIENTS,
        stagger: Duration::from_millis(60),
        topics: vec![TOPIC.to_owned()],
        inbox: true,
        audit: vec![TOPIC.to_owned()],
        stop_timeout: give_up_after / LEAVE_PART,
        ..FleetConfig::default()
    };
    Ok(Stage {
        signals,
        board: Board::new(TOPIC, text.lines.len(), CLIENTS),
        page,
        fleet: Fleet::start(client, config),
        server: Some(server),
        answers: None,
        topic: TOPIC,
        deadline: began + give_up_after,
        intruders: 0,
        returned: BTreeMap::new(),
    })
}

/// The clients subscribe, strangers are refused, the text begins, the server dies and comes back, the text ends.
async fn tell(stage: &mut Stage, setting: &Setting) -> Result<(), Trouble> {
    let Setting {
        text,
        history,
        door,
    } = setting;
    stage
        .until("ten open streams", Board::everybody_is_connected)
        .await?;

    let server = stage.server.as_ref().expect("it was started in step 1");
    let address = server.address;
    let strangers = door.strangers(address)?;
    if !strangers.is_empty() {
        stage
            .page
            .step("Three strangers ask for the same topic, and must be refused")?;
        stage.refuse(&strangers).await?;
    }

    let total = stage.page.total();
    let step = format!("A publisher sends {} to {TOPIC}, line by line", text.name);
    stage.page.step(&step)?;
    if text.left_out > 0 {
        let left_out = format!("the first {total} lines; {} are left out", text.left_out);
        stage.page.remark(&left_out)?;
    }
    let publisher = door
        .publisher(address, &[TOPIC])?
        .backoff(BACKOFF)
        .build()?
        .publisher();
    let messages = text.messages(TOPIC, rand::random());
    stage.answers = Some(Box::pin(publisher.publish_stream(messages, IN_FLIGHT)));
    stage
        .until(door.before_the_kill(), |board| door.is_time_to_kill(board))
        .await?;

    kill(stage, text).await?;

    stage.page.step("It starts again, on the same port")?;
    let server = Server::start(address, door, history.dir()).await?;
    let started = format!(
        "the same command (pid {}); {}",
        server.pid,
        history.at_restart()
    );
    stage.page.event("server", Tone::Plain, &started)?;
    stage.server = Some(server);
    stage
        .until("ten clients that came back", Board::everybody_is_connected)
        .await?;
    stage.until("the end of the text", Board::is_told).await?;
    stage.until_nothing_is_owed().await?;
    // Deliveries that the fleet has counted are still on their way to the page.
    stage.pass(Duration::from_millis(100)).await
}

/// The kill.
async fn kill(stage: &mut Stage, text: &Text) -> Result<(), Trouble> {
    let lines = stage.board.acknowledged_lines();
    let step = format!("kill -9, after line {lines} of {}", stage.page.total());
    stage.page.step(&step)?;
    let killed = Instant::now();
    if let Some(server) = stage.server.take() {
        let gone = format!("killed (pid {}), without a word to anybody", server.pid);
        server.kill().await?;
        stage.page.event("server", Tone::Bad, &gone)?;
    }
    stage
        .until("ten lost streams", Board::everybody_lost_a_stream)
        .await?;
    for mut line in stage.board.incomplete() {
        if line.text.is_empty() {
            let index = (line.number as usize).saturating_sub(1);
            line.text = text.lines.get(index).cloned().unwrap_or_default();
        }
        // Acknowledged or not, some have it and some do not: they get it later, or a gap has to cover it.
        stage.page.line_at_any_rate(&line)?;
    }
    stage.pass(OUTAGE.saturating_sub(killed.elapsed())).await?;
    let attempts = format!(
        "{} attempts in vain until now",
        stage.board.failed_attempts()
    );
    stage.page.event("clients", Tone::Wait, &attempts)?;
    Ok(())
}

/// All clients have left; the verdict.
async fn end(stage: Stage, told: bool, setting: &Setting) -> anyhow::Result<ExitCode> {
    let Stage {
        page,
        board,
        fleet,
        mut signals,
        intruders,
        ..
    } = stage;
    let Setting { history, door, .. } = setting;
    let verdict = fleet.stop().await;
    let ok = verdict.unsubscribed_ok;
    page.event(
        "clients",
        if ok == CLIENTS { Tone::Good } else { Tone::Bad },
        &format!("{ok} of {CLIENTS} streams ended with OK"),
    )?;
    page.verdict(&verdict)?;
    for absence in show::absences(&verdict) {
        page.sentence(Tone::Bad, &absence)?;
    }
    let mut broken = history.broken_promises(&board, &verdict);
    broken.extend(door.broken_promises(&board, intruders));
    let passed = told && board.all_acknowledged() && verdict.survived() && broken.is_empty();
    page.sentence(Tone::Plain, &balance(&board, &verdict))?;
    if let Some(again) = sent_again(&board) {
        page.sentence(Tone::Plain, &again)?;
    }
    let (tone, sentence) = show::cleanliness(&verdict);
    page.sentence(tone, &sentence)?;
    for promise in broken {
        page.sentence(Tone::Bad, &promise)?;
    }
    if passed {
        for word in door.success(&board, CLIENTS) {
            page.sentence(Tone::Good, &word)?;
        }
        page.sentence(Tone::Good, history.success())?;
    } else {
        page.sentence(Tone::Bad, "The demo did not come through.")?;
    }
    tokio::select! {
        biased;
        (_, number) = signals.next() => Ok(signals::ended_by(number)),
        written = page.written() => {
            written?;
            Ok(ExitCode::from(u8::from(!passed)))
        }
    }
}

/// The promises of the acknowledgements, and whether they were kept.
fn balance(board: &Board, verdict: &Verdict) -> String {
    let lines = board.acknowledged_lines() as u64;
    let owed = lines * u64::from(CLIENTS);
    let made = board.deliveries_made();
    let lost = verdict.lost.unwrap_or_default();
    let in_gaps = owed.saturating_sub(made + lost);
    let kept = match board.on_disk() {
        0 => "in memory".to_owned(),
        all if all as u64 == lines => "on disk".to_owned(),
        some => format!("({some} of them on disk)"),
    };
    format!(
        "{lines} lines acknowledged {kept} x {CLIENTS} clients = {owed} deliveries: {made} made, {in_gaps} inside an \
         announced gap, {lost} lost."
    )
}

/// The one thing that sequences do not show.
fn sent_again(board: &Board) -> Option<String> {
    let count = board.sent_again();
    let lines = match count {
        0 => return None,
        1 => "1 line was".to_owned(),
        many => format!("{many} lines were"),
    };
    Some(format!(
        "{lines} published twice: the acknowledgement died with the server, so the publisher sent again."
    ))
}
