import { SignInForm } from '../../account-forms'

export const metadata = { title: 'Sign in' }

export default function SignInPage() {
  return (
    <div className="middle">
      <SignInForm fallbackRedirectUrl="/todos" />
    </div>
  )
}
