/** A user at a browser, over plain HTTP: opens a link, logs in at the stand-in for FlowAccount, chooses, comes back. */

export class Browser {
  /** Cookies by host, then by name. */
  readonly #cookies = new Map<string, Map<string, string>>();

  /** Choose `business`, or cancel without one. Gives the address at the app to which the browser is sent back. */
  async connect(connectUrl: string, user: string, business?: string): Promise<URL> {
    const login = await this.#open(connectUrl);
    const choice = await this.#open(await this.#send(login, "/connect/login", { user }));
    const callback = await this.#send(choice, "/connect/consent", business ? { business } : { action: "cancel" });
    const answer = await this.#request(callback);
    return new URL(answer.headers.get("location") ?? "", callback);
  }

  /** A page, behind however many redirects. */
  async #open(at: string | URL): Promise<{ url: URL; html: string }> {
    for (let url = new URL(at), hops = 0; hops < 10; hops += 1) {
      const answer = await this.#request(url);
      const location = answer.headers.get("location");
      if (location === null) return { url, html: await answer.text() };
      url = new URL(location, url);
    }
    throw new Error("too many redirects");
  }

  /** Fill a page's form; gives where that leads. */
  async #send(page: { url: URL; html: string }, path: string, fields: Record<string, string>): Promise<URL> {
    const attempt = /name="attempt" value="([^"]+)"/.exec(page.html)?.[1];
    if (attempt === undefined) throw new Error(`${page.url.pathname} is no page of the stand-in`);
    const answer = await this.#request(new URL(path, page.url), new URLSearchParams({ attempt, ...fields }));
    return new URL(answer.headers.get("location") ?? "", page.url);
  }

  async #request(url: URL, form?: URLSearchParams): Promise<Response> {
    const kept = this.#cookies.get(url.host) ?? new Map<string, string>();
    this.#cookies.set(url.host, kept);
    const cookie = [...kept].map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(url, {
      redirect: "manual",
      headers: { accept: "text/html", ...(cookie && { cookie }) },
      ...(form && { method: "POST", body: form }),
    });
    for (const line of answer.headers.getSetCookie()) {
      const [, name = "", value = ""] = /^([^=;]+)=([^;]*)/.exec(line) ?? [];
      if (/max-age=0(?!\d)/i.test(line)) kept.delete(name);
      else kept.set(name, value);
    }
    return answer;
  }
}
