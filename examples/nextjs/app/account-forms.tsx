'use client'

import dynamic from 'next/dynamic'

// In the browser only: Clerk's scripts may be there before React takes over the HTML of the server, and would change it.
export const SignInForm = dynamic(() => import('@clerk/nextjs').then((clerk) => clerk.SignIn), { ssr: false })
export const SignUpForm = dynamic(() => import('@clerk/nextjs').then((clerk) => clerk.SignUp), { ssr: false })
