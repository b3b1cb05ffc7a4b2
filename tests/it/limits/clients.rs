//! How the service tells clients apart behind proxies.

use reqwest::Method;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::actor::answer;

use super::{behind, register_from};

#[tokio::test]
async fn the_client_is_the_right_most_hop_that_no_trusted_proxy_has() {
    let trusted = "127.0.0.1, 10.0.0.0/8, 2001:db8:ffff::/48";
    let app = behind(trusted, "on").await;
    let huge = format!("{} 192.0.2.7", "203.0.113.9,".repeat(400));
    let junk = format!("203.0.113.9, {}, 10.0.0.1", "x".repeat(4000));
    let client = "192.0.2.7";
    let proxy = "127.0.0.1";
    let cases: &[(&[&str], &str)] = &[
        (&[], proxy),
        (&["192.0.2.7"], client),
        // The client itself sent the part to the left.
        (&["203.0.113.9, 192.0.2.7"], client),
        (&["127.0.0.1, 10.1.2.3, 192.0.2.7"], client),
        (&["203.0.113.9,192.0.2.7,10.0.0.1"], client),
        (&["203.0.113.9, 192.0.2.7 , 10.0.0.1 ,10.2.3.4"], client),
        (&["10.0.0.1"], "10.0.0.1"),
        (&["10.0.0.2, 10.0.0.1"], "10.0.0.2"),
        // Several lines are one list.
        (&["203.0.113.9", "192.0.2.7"], client),
        (&["192.0.2.7", "10.0.0.1"], client),
        (&["203.0.113.9, 192.0.2.7", "10.0.0.1, 10.0.0.2"], client),
        // Spaces, tabs, and empty hops.
        (&["  192.0.2.7\t"], client),
        (&["203.0.113.9,\t192.0.2.7"], client),
        (&["192.0.2.7,,"], client),
        (&["192.0.2.7", ""], client),
        (&[" , ,192.0.2.7, , 10.0.0.1 ,"], client),
        (&[""], proxy),
        (&[",,,"], proxy),
        // Ports, brackets, IPv6 addresses, and IPv4 addresses within those.
        (&["192.0.2.7:567"], client),
        (&["203.0.113.9:1, 192.0.2.7:567, 10.0.0.1:80"], client),
        (&["[2001:db8::7]"], "2001:db8::7"),
        (&["[2001:db8::7]:80"], "2001:db8::7"),
        (&["2001:DB8:0:0::7, 2001:db8:ffff::1"], "2001:db8::7"),
        (&["::ffff:192.0.2.7"], client),
        (&["203.0.113.9, [::ffff:192.0.2.7]:443"], client),
        (&["192.0.2.7, ::ffff:10.0.0.1"], client),
        (&["192.0.2.7, ::ffff:127.0.0.1"], client),
        (&["0:0:0:0:0:ffff:c000:0207"], client),
        // A hop that is no address. Nothing to its left is trusted.
        (&["203.0.113.9, unknown"], proxy),
        (&["203.0.113.9, unknown, 10.0.0.1"], "10.0.0.1"),
        (&["203.0.113.9, _hidden, 10.0.0.1"], "10.0.0.1"),
        (&["203.0.113.9, 192.0.2.300"], proxy),
        (&["203.0.113.9, 192.0.2"], proxy),
        (&["203.0.113.9, 3221225991"], proxy),
        (&["203.0.113.9, 192.0.2.7:99999"], proxy),
        (&["203.0.113.9, [192.0.2.7]"], proxy),
        (&["203.0.113.9, [2001:db8::7"], proxy),
        (&["203.0.113.9, fe80::1%eth0"], proxy),
        (&["203.0.113.9, \"192.0.2.7\""], proxy),
        (&["203.0.113.9; 192.0.2.7"], proxy),
        (&["for=192.0.2.7"], proxy),
        (&["203.0.113.9, 192.0.2.7 10.0.0.1"], proxy),
        (&["192.0.2.7, 0.0.0.0"], "0.0.0.0"),
        (&[&huge], client),
        (&[&junk], "10.0.0.1"),
    ];
    for (number, (hops, _)) in cases.iter().enumerate() {
        register_from(&app, &format!("user-{number}"), hops)
            .await
            .ok(201);
    }
    let rows = app
        .sql()
        .await
        .query(
            "select substr(username, 6)::int, host(ip)
               from public.users as u join private.refresh_tokens as t on t.user_id = u.id",
            &[],
        )
        .await
        .expect("sign-ins");
    assert_eq!(rows.len(), cases.len());
    for row in rows {
        let (hops, expected) = cases[row.get::<_, i32>(0) as usize];
        assert_eq!(row.get::<_, &str>(1), expected, "{hops:?}");
    }
}

#[tokio::test]
async fn nobody_is_believed_but_trusted_proxies_and_their_one_header() {
    for (proxies, header) in [
        ("", "X-Forwarded-For"),
        ("10.0.0.0/8, 192.0.2.7", "X-Forwarded-For"),
        ("127.0.0.0/8", "Forwarded"),
        ("127.0.0.0/8", "X-Real-IP"),
        ("127.0.0.0/8", "CF-Connecting-IP"),
        ("127.0.0.0/8", "X-Forwarded-Host"),
    ] {
        let app = behind(proxies, "network=2/h").await;
        let visitor = app.visitor();
        for (number, allowed) in [(1, true), (2, true), (3, false)] {
            let address = match header {
                "Forwarded" => format!("for=203.0.113.{number}"),
                _ => format!("203.0.113.{number}"),
            };
            let request = visitor
                .request(Method::GET, "/challenges")
                .header(header, address);
            let answer = answer(request).await;
            if allowed {
                answer.ok(200);
            } else {
                answer.problem(429, "rate_limited");
            }
        }
    }
}

/// The proxy passes on the client's header, and adds the address that it knows.
#[tokio::test]
async fn whatever_a_client_sends_through_a_proxy_counts_for_its_own_network() {
    let app = behind("127.0.0.1, 10.0.0.0/8", "network=1000/h").await;
    let own = "X-Forwarded-For: 192.0.2.7\r\n";
    let spoof = "203.0.113.9";
    let many = format!("X-Forwarded-For: {spoof}\r\n").repeat(60);
    let counted = [
        own.to_owned(),
        format!("X-Forwarded-For: {spoof}\r\n{own}"),
        format!("X-Forwarded-For: {spoof}, 127.0.0.1, 10.0.0.1\r\n{own}"),
        format!("{many}{own}"),
        format!("x-forwarded-for:{spoof},192.0.2.7\r\n"),
        format!("X-FORWARDED-FOR: {spoof},\t,, ,192.0.2.7 ,10.0.0.1\t\r\n"),
        format!("X-Forwarded-For: {spoof}\r\nx-forwarded-for: 192.0.2.7,10.0.0.1\r\n"),
        format!("X_Forwarded_For: {spoof}\r\n{own}X_Forwarded_For: {spoof}\r\n"),
        format!("X-Forwarded-For-: {spoof}\r\n{own}X-Forwarded: for={spoof}\r\n"),
        format!("{own}Forwarded: for={spoof}\r\nX-Real-IP: {spoof}\r\nTrue-Client-IP: {spoof}\r\n"),
        format!(
            "{own}X-Client-IP: {spoof}\r\nClient-IP: {spoof}\r\nX-Original-Forwarded-For: {spoof}\r\n"
        ),
        format!("{own}Connection: X-Forwarded-For, keep-alive\r\n"),
        format!("{own}Via: 1.1 {spoof}\r\nFrom: {spoof}\r\nOrigin: http://{spoof}\r\n"),
        format!("X-Forwarded-For: \u{ff}{spoof}\u{a0}, 192.0.2.7\r\n"),
        format!(
            "{own}Transfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n\r\n0\r\nX-Forwarded-For: {spoof}\r\n"
        ),
    ];
    // These texts are no such header. They do not count.
    let refused = [
        format!("X-Forwarded-For : {spoof}\r\n"),
        format!("{own}\t, {spoof}\r\n"),
        format!("{own} {spoof}\r\n"),
        format!("X-Forwarded-For\0: {spoof}\r\n{own}"),
        format!("X-Forwarded-For: {spoof}\r\0\n{own}"),
    ];
    let get = async |uri: &str, headers: &str| {
        let address = app.base.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {uri} HTTP/1.1\r\nHost: {spoof}\r\n{headers}\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut heard = Vec::new();
        let mut part = [0; 4096];
        while !heard.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut part).await.expect("an answer");
            assert!(count > 0, "{headers:?}: the connection ended");
            heard.extend(&part[..count]);
        }
        String::from_utf8_lossy(&heard).into_owned()
    };
    let mut left = 1000;
    for uri in ["/api/v1/challenges", "http://203.0.113.9/api/v1/challenges"] {
        for headers in &counted {
            left -= 1;
            let heard = get(uri, headers).await;
            let limit = format!("ratelimit: \"network\";r={left};");
            assert!(heard.starts_with("HTTP/1.1 200"), "{headers:?}: {heard}");
            assert!(heard.contains(&limit), "{headers:?}: {heard}");
        }
    }
    for headers in &refused {
        let heard = get("/api/v1/challenges", headers).await;
        assert!(heard.starts_with("HTTP/1.1 400"), "{headers:?}: {heard}");
    }
}
