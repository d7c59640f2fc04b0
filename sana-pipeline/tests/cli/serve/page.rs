//! The page, and what describes the server.

use super::*;

#[test]
fn the_page_asks_nobody_else() {
    let server = Server::start(&[]);
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(
        page.head
            .contains("content-security-policy: default-src 'none'"),
        "{}",
        page.head
    );
    let text = page.text();
    for outside in ["http://", "https://", "//cdn", "@import", "src=\"/"] {
        assert!(!text.contains(outside), "{outside}");
    }
    let model = server.get("/v1/models/sana").ok();
    assert_eq!(
        model["sana"]["size"],
        server.get("/v1/models").ok()["data"][0]["sana"]["size"]
    );
    assert_eq!(server.get("/v1/models/other").status, 404);
    let description = server.get("/openapi.json").ok();
    assert!(description["paths"][GENERATIONS]["post"].is_object());
}
