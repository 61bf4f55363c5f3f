//! HTTP/2 without TLS, by prior knowledge: requests side by side, an orderly end, and floods.

use crate::{Fresh, now_ms, store};
use bytes::Bytes;
use h2::client::SendRequest;
use kymo_tests::remote_write::{Request, TimeSeries};
use std::time::Duration;
use tokio::net::TcpStream;

async fn connect(fresh: &Fresh) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(fresh.server.address()).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}

async fn ask(sender: &SendRequest<Bytes>, method: &str, target: &str, body: Bytes) -> (u16, String) {
    let mut sender = sender.clone().ready().await.unwrap();
    let request =
        hyper::Request::builder().method(method).uri(format!("http://localhost{target}")).body(()).unwrap();
    let end = body.is_empty();
    let (response, mut stream) = sender.send_request(request, end).unwrap();
    if !end {
        stream.send_data(body, true).unwrap();
    }
    let response = response.await.unwrap();
    let status = response.status().as_u16();
    let (mut body, mut text) = (response.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        text.extend_from_slice(&data);
    }
    (status, String::from_utf8_lossy(&text).into_owned())
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(future)
}

#[test]
fn requests_side_by_side() {
    let fresh = Fresh::start(&[]);
    let t = now_ms();
    let series: Vec<TimeSeries> =
        (0..5_000).map(|i| TimeSeries::new("m", &[("i", &i.to_string())], vec![(t, 1.0)])).collect();
    block_on(async {
        let sender = connect(&fresh).await;
        let body = Bytes::from(Request::of(&series).compress());
        assert_eq!(ask(&sender, "POST", "/api/v1/write", body).await.0, 204);
        let asked = (0..50).map(|_| ask(&sender, "GET", "/api/v1/series?match[]=m", Bytes::new()));
        for (status, text) in futures_of(asked).await {
            assert_eq!(status, 200);
            assert_eq!(text.matches("__name__").count(), 5_000);
        }
        assert_eq!(
            ask(&sender, "GET", "/nope", Bytes::new()).await,
            (404, "404 page not found\n".to_owned())
        );
    });
}

/// All at once, in order.
async fn futures_of<F: Future + Send>(futures: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F::Output: Send,
{
    let mut all: Vec<_> = futures.map(Box::pin).map(|f| (Some(f), None)).collect();
    std::future::poll_fn(move |cx| {
        let mut open = false;
        for (future, output) in &mut all {
            if let Some(f) = future {
                match f.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => (*future, *output) = (None, Some(value)),
                    std::task::Poll::Pending => open = true,
                }
            }
        }
        if open {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(
            std::mem::take(&mut all).into_iter().filter_map(|(_, output)| output).collect(),
        )
    })
    .await
}

#[test]
fn sigterm_lets_streams_finish() {
    let mut fresh = Fresh::start(&[]);
    store(&mut fresh.client(), &[TimeSeries::new("m", &[], vec![(now_ms(), 1.0)])]);
    let status = block_on(async {
        let sender = connect(&fresh).await;
        assert_eq!(ask(&sender, "GET", "/-/ready", Bytes::new()).await.0, 200);
        tokio::task::block_in_place(|| fresh.server.terminate(Duration::from_secs(10)))
    });
    assert!(status.is_some_and(|s| s.success()), "{}", fresh.server.output());
}

#[test]
fn resets_and_header_floods_are_survived() {
    let fresh = Fresh::start(&[]);
    block_on(async {
        for _ in 0..3 {
            let sender = connect(&fresh).await;
            for _ in 0..5_000 {
                let Ok(mut ready) = sender.clone().ready().await else { break };
                let request =
                    hyper::Request::builder().uri("http://localhost/api/v1/query?query=1").body(()).unwrap();
                let Ok((response, mut stream)) = ready.send_request(request, false) else { break };
                stream.send_reset(h2::Reason::CANCEL);
                drop(response);
            }
        }
        let mut ready = connect(&fresh).await.ready().await.unwrap();
        let mut request = hyper::Request::builder().uri("http://localhost/-/healthy");
        for i in 0..1_000 {
            request = request.header(format!("x-{i}"), "y".repeat(200));
        }
        let (response, _) = ready.send_request(request.body(()).unwrap(), true).unwrap();
        assert!(response.await.map_or(true, |r| r.status().is_client_error()));
        let sender = connect(&fresh).await;
        assert_eq!(ask(&sender, "GET", "/-/healthy", Bytes::new()).await.0, 200);
    });
    assert!(!fresh.server.output().contains("panicked"));
}
