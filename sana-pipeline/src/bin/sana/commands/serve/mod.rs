//! `sana serve`: images over HTTP.

mod api;
mod args;
mod error;
mod images;
mod key;
mod names;
mod queue;
mod state;
mod worker;

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use sana_pipeline::{Request, StepAction};
use tokio::sync::{Semaphore, oneshot};

use crate::generate::args::LoadedArgs;
use crate::model::Model;
use crate::terminal::output;

use self::queue::Queue;
use self::state::kept::Kept;
use self::state::metrics::Metrics;
use self::state::{Server, Shared, State};

pub use self::args::ServeArgs;

/// Bytes of images that are kept for their addresses.
const KEPT_BYTES: usize = 256 << 20;
/// How long clients may take to read their answers when the server ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// The exit status of a process that a signal ended, as shells have it.
const INTERRUPTED: i32 = 130;
/// How long they are kept.
const KEPT_TIME: Duration = Duration::from_secs(3600);

/// Runs `sana serve` until it is asked to end.
pub fn run(args: ServeArgs) -> anyhow::Result<()> {
    let ServeArgs {
        model,
        lora,
        resources,
        listen,
        limits,
        decode_previews,
        no_mark,
        ..
    } = args;
    let loaded = LoadedArgs {
        model,
        lora,
        ..LoadedArgs::default()
    };
    let (address, key) = listen.open()?;
    // Before the model is opened, which takes longer.
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}: try another --port"))?;
    let address = listener.local_addr()?;
    let mut model = loaded.open(&resources)?;
    let shared = Arc::new(Shared {
        queue: Queue::new(limits.queue),
        running: state::Running::default(),
        metrics: Metrics::new(&model.name, &model.device.name.to_string()),
        limits,
        decode_previews,
        no_mark,
        no_colors: false.into(),
        ready: false.into(),
    });
    let server: Server = Arc::new(State {
        shared: Arc::clone(&shared),
        spec: model.pipeline.spec().clone(),
        model: model.name.clone(),
        started: api::now(),
        is_local: key.is_none() && address.ip().is_loopback(),
        key,
        origins: listen.allow_origin,
        kept: Kept::new(KEPT_BYTES, KEPT_TIME),
        unpacks: Arc::new(Semaphore::new(2)),
    });
    let (worked, worker_ended) = oneshot::channel();
    let http = thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || serve(listener, server, worker_ended))
        .context("cannot start a thread for the server")?;

    let mut out = output();
    writeln!(out, "model {}, device {}", model.name, model.device.name)?;
    writeln!(out, "listening on http://{address}/")?;
    out.flush()?;
    warm_up(&mut model)?;
    model.print_notes();
    shared.ready.store(true, Ordering::Relaxed);
    writeln!(out, "ready")?;
    out.flush()?;
    let loaded = names::without_folders(&loaded, &model.name, model.revision.is_some());
    worker::work(&mut model, &loaded, &shared);
    // It has ended where the server has.
    let _ = worked.send(());
    match http.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Makes an image in one step, so that weights are loaded and kernels compiled before the first request.
fn warm_up(model: &mut Model) -> anyhow::Result<()> {
    let request = Request::new("a red circle").steps(1);
    model
        .pipeline
        .generate(&request, &mut |_| StepAction::Continue)
        .context("the first image, to try the model")?;
    Ok(())
}

/// Closes the queue when the server has ended, however it did.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

/// Answers requests until the process is asked to end. Then those that are there are answered, and who
/// does not read the answer is not waited for; a second signal ends the process at once.
fn serve(
    listener: TcpListener,
    server: Server,
    worker_ended: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let shared = Arc::clone(&server.shared);
    let _closing = Closing(Arc::clone(&shared));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_name("http")
        .enable_all()
        .build()
        .context("cannot start the threads of the server")?;
    let result = runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let drain = async move {
            asked_to_end().await;
            shared.ready.store(false, Ordering::Relaxed);
            shared.queue.close();
            tokio::spawn(async {
                asked_to_end().await;
                std::process::exit(INTERRUPTED);
            });
        };
        let answering = axum::serve(listener, api::routes(server)).with_graceful_shutdown(drain);
        let patience = async {
            let _ = worker_ended.await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::select! {
            result = answering => result,
            () = patience => Ok(()),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(result?)
}

/// Waits for SIGTERM or Ctrl-C.
async fn asked_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = tokio::signal::ctrl_c() => return,
            }
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
