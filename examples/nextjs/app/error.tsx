'use client'

/** Shown instead of a page whose database, or whose POST /session, did not answer. */
export default function ErrorPage({ reset }: { error: Error; reset: () => void }) {
  return (
    <section className="card" role="alert">
      <h1>This did not work</h1>
      <p>The database did not answer as it should. Nothing is lost.</p>
      <button type="button" onClick={reset}>
        Try again
      </button>
    </section>
  )
}
