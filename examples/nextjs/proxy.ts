import { clerkMiddleware, createRouteMatcher } from '@clerk/nextjs/server'

// The pages that anybody may open. Policies protect the rows; this only spares people an empty page.
const isPublic = createRouteMatcher(['/', '/sign-in(.*)', '/sign-up(.*)'])

export default clerkMiddleware(async (auth, request) => {
  if (!isPublic(request)) await auth.protect()
})

export const config = {
  matcher: ['/((?!_next|favicon.ico|.*\\.(?:css|js|png|svg|ico|webp)$).*)', '/(api|trpc)(.*)'],
}
